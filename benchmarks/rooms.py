"""The rooms of the program and the arrows between them: `python -m benchmarks.rooms [FOLDER]`.

FOLDER is a checkout (default: this one), so that two can be compared. An arrow goes from a room to
one whose modules it imports; it goes up where that room is not below. The order is that of the
contract in `pyproject.toml`, which `lint-imports` holds; what is not on it is its own room.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tomllib

PACKAGE = "mcore_compat"
ROOT = Path(__file__).resolve().parents[1]


def order() -> dict[str, int]:
    """Each room's floor, counted from the top."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contract["contracts"][0]["layers"]
    return {name.strip(): floor for floor, row in enumerate(layers) for name in row.split(":")}


def modules(root: Path) -> dict[str, Path]:
    """The file of each module, by name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports anywhere, except under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else str(node.module)


def room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def main() -> None:
    """Print the rooms, the arrows, and those that go up."""
    root = Path(sys.argv[1]) if sys.argv[1:] else ROOT
    floors, known = order(), modules(root)
    arrows: Counter[tuple[str, str]] = Counter()
    for module, path in known.items():
        for target in imports(path, known):
            if room(module) != room(target):
                arrows[room(module), room(target)] += 1
    sizes: Counter[str] = Counter()
    for module, path in known.items():
        sizes[room(module)] += len(path.read_text(encoding="utf-8").splitlines())
    rooms = sorted(sizes, key=lambda name: (floors.get(name, len(floors)), name))
    for name in rooms:
        below = ", ".join(f"{b} {n}" for (a, b), n in sorted(arrows.items()) if a == name)
        count = sum(room(module) == name for module in known)
        print(f"{name or '(top)':14} {count:3} modules {sizes[name]:6} lines  uses {below or '-'}")
    # A room that the contract does not name is neither above nor below.
    up = [(a, b, n) for (a, b), n in sorted(arrows.items()) if a in floors and b in floors]
    up = [(a, b, n) for a, b, n in up if floors[a] >= floors[b]]
    print(f"{len(known)} modules, {sum(sizes.values())} lines, {len(rooms)} rooms")
    print(f"{len(arrows)} arrows of {sum(arrows.values())} imports, up: {len(up)} {up or ''}")


if __name__ == "__main__":
    main()
