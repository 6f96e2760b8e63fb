"""What a cell keeps of each checkpoint: where it lies, and the manifest of what is in it. Pure:
needs no torch.

A folder of kept checkpoints is `FAMILY/KIND/{manifest.json, checkpoint/}`; a folder of cells has
such a folder for each, under the cell's name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suite import compare
from suite.compare import Digest
from suite.outcomes import FAMILIES

SAVE_INTO = "MCORE_COMPAT_CHECKPOINTS"
"""Names the folder into which this cell's checkpoints go."""

LOAD_FROM = "MCORE_COMPAT_LOAD_FROM"
"""Names the folder of the cells whose checkpoints are loaded."""

LOADED = "MCORE_COMPAT_LOADED"
"""What of it is loaded: comma-separated, `CELL` for all of a cell or `CELL:WAY`; empty: all."""

KINDS = ("default", "modelopt", "quantized")
"""The checkpoints that each cell keeps of each family."""


@dataclass(frozen=True)
class Way:
    """A checkpoint of the kind `saved` goes into a model of the spec `target`."""

    name: str
    saved: str
    target: str


WAYS = (
    Way("default", "default", "default"),
    Way("modelopt", "modelopt", "modelopt"),
    Way("default-to-modelopt", "default", "modelopt"),
    Way("quantized", "quantized", "modelopt"),
)

NUMBERS = re.compile(r"\.(\d+)(?=\.)")
"""Of a parameter's name: which layer, which expert."""

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint; `key` is what the checkpoint has it under, where it says."""

    sha256: str
    shape: tuple[int, ...]
    dtype: str
    key: str | None

    @property
    def digest(self) -> Digest:
        return Digest(self.sha256, self.shape, self.dtype)


@dataclass(frozen=True)
class Manifest:
    """What was saved. `quantizers` is empty where none was inserted, `modes` is ModelOpt's record
    of what was done to the model."""

    family: str
    kind: str
    seed: int
    versions: Mapping[str, str]
    configuration: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    extra_states: tuple[str, ...]
    quantizers: Mapping[str, Mapping[str, Any]]
    modes: Mapping[str, str]

    @property
    def digests(self) -> dict[str, Digest]:
        """By name in the saved model."""
        return {name: one.digest for name, one in self.tensors.items()}


def text(manifest: Manifest) -> str:
    """The manifest's file; the same bytes for the same checkpoint."""
    data = {"format": FORMAT, **asdict(manifest)}
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read(folder: Path) -> Manifest:
    """The manifest of the checkpoint kept in `folder`.

    Raises:
        AssertionError: it is corrupt, of another format, or not of the place where it lies.
    """
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = data.pop("format")
        assert found == FORMAT, f"the manifest is of format {found}, not {FORMAT}"
        tensors = {
            name: Tensor(**{**one, "shape": tuple(one["shape"])})
            for name, one in data.pop("tensors").items()
        }
        extras = tuple(data.pop("extra_states"))
        manifest = Manifest(**data, tensors=tensors, extra_states=extras)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AssertionError(f"the manifest is corrupt: {error!r}") from error
    said, place = (manifest.family, manifest.kind), (folder.parent.name, folder.name)
    assert said == place, f"the manifest is of {'/'.join(said)}, not of {'/'.join(place)}"
    return manifest


def keep(into: Path, family: str, kind: str, write: Callable[[Path], Manifest]) -> Path:
    """Let `write` fill a folder and describe it; it takes its place only when it is whole."""
    folder, part = into / family / kind, into / family / f".{kind}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    manifest = write(part)
    with (part / MANIFEST).open("w", encoding="utf-8") as out:
        out.write(text(manifest))
        out.flush()
        os.fsync(out.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def there(root: Path, words: str = "") -> list[tuple[str, str, Way]]:
    """`(cell, family, way)` of all that is kept below `root` and meant by `words`, in order.

    Raises:
        ValueError: a word names a cell that has nothing there, or no way.
    """
    meant = [word.partition(":") for word in words.split(",") if word]
    cells = {path.parts[-4] for path in root.glob(f"*/*/*/{MANIFEST}")}
    for cell, _, way in meant:
        if cell not in cells:
            raise ValueError(f"{LOADED}: nothing is kept of {cell!r}")
        if way and way not in [one.name for one in WAYS]:
            raise ValueError(f"{LOADED}: {way!r} is none of {', '.join(w.name for w in WAYS)}")
    return [
        (cell, family, way)
        for cell in sorted(cells)
        for family in FAMILIES
        for way in WAYS
        if (root / cell / family / way.saved / MANIFEST).is_file()
        and (not meant or any(c == cell and w in ("", way.name) for c, _, w in meant))
    ]


def moved(saved: Mapping[str, str | None], asked: Mapping[str, str | None]) -> dict[str, str]:
    """Where a tensor of one name is under one key in the checkpoint and asked for under another;
    both mappings are keys by name, the names unfused."""
    return {
        name: f"{key} -> {asked[name]}"
        for name, key in sorted(saved.items())
        if name in asked and asked[name] != key
    }


def other_names(saved: Mapping[str, str | None], there: Mapping[str, str | None]) -> dict[str, str]:
    """The saved tensors that the model has by another name under the same key, in the same place
    among layers and experts, which may share a key; both mappings are keys by unfused name."""
    gone = {name: key for name, key in saved.items() if key and name not in there}
    new = {name: key for name, key in there.items() if key and name not in saved}
    found = {}
    for name, key in sorted(gone.items()):
        same = [
            n for n, k in new.items() if k == key and NUMBERS.findall(n) == NUMBERS.findall(name)
        ]
        if len(same) == 1:
            found[name] = same[0]
    ends = Counter(found.values())
    return {name: other for name, other in found.items() if ends[other] == 1}


def unfused(keys: Mapping[str, str | None]) -> dict[str, str | None]:
    """Checkpoint keys by the name of a model whose norms are their own."""
    return {compare.unfused(name): key for name, key in keys.items()}


def enabled(
    quantizers: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Of the quantizers that do something: what each does, without its text."""
    return {
        name: {key: value for key, value in one.items() if key not in ("enabled", "text")}
        for name, one in quantizers.items()
        if one.get("enabled")
    }


def alike(digests: Mapping[str, Digest], names: Iterable[str]) -> list[str]:
    """In words, which of the tensors `names` could be taken for one another."""
    seen: dict[Digest, str] = {}
    found = []
    for name in sorted(names):
        other = seen.setdefault(digests[name], name)
        if other != name:
            found.append(f"{name} and {other} are the same")
    return found
