"""Reference pages that are made of the code: commands of their parsers, files of their models.

A page says where: `<!-- generated: commands -->`, `<!-- generated: schema FILE -->` for a JSON
Schema, `<!-- generated: type MODULE:CLASS -->` for a msgspec model, `<!-- generated: docstring
MODULE -->` for what a module's docstring lists, `<!-- generated: benchmarks -->`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mcore_compat.cli import registry
from mcore_compat.cli.parsing import parser_of

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PLACE = re.compile(r"^<!-- generated: (\w+) ?(\S*) -->$", re.M)

Schema = Mapping[str, Any]


def commands() -> str:
    """Every command: what it does, its options, an example, its exit codes."""
    lines: list[str] = []
    for group in dict.fromkeys(command.group for command in registry.COMMANDS):
        lines += [f"## {group[0].upper()}{group[1:]}", ""]
        for command in registry.COMMANDS:
            if command.group == group:
                lines += _command(command)
    return "\n".join(lines)


def _command(command: registry.Command) -> Iterator[str]:
    parser = parser_of(command, importlib.import_module(f"mcore_compat.cli.{command.name}"))
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    yield from (f"({command.name})=", f"### `{command.name}`", "")
    yield from ((parser.description or "").strip(), "")
    yield from ("```text", *_dedented(usage), "```", "")
    for action in parser._actions:
        if not COMMON.intersection(action.option_strings):
            yield from (_name(action), f": {' '.join((action.help or '').split())}", "")
    also = f"nox -s {command.name}" if command.session else ""
    example = f"mcore-compat {command.name} {command.example}".rstrip()
    said = [f"Example: `{example}`" + (f"; as a session: `{also} -- …`" if also else "")]
    _, _, codes = (parser.epilog or "").partition("\n\n")
    yield from ("", *said, "", " ".join(codes.split()).capitalize() + ".", "")


COMMON = frozenset({"-h", "--help", "--workspace"})
"""Options of every command."""


def _dedented(usage: str) -> list[str]:
    first, *rest = usage.splitlines()
    return [first, *(f"    {line.strip()}" for line in rest)]


def _name(action: argparse.Action) -> str:
    value = action.metavar or (action.dest if action.nargs != 0 else "")
    value = value if isinstance(value, str) else " ".join(value or ())
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(action.option_strings)
    return f"`{names} {value}`" if action.nargs != 0 else f"`{names}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("%%", "%")


def schema(file: str) -> str:
    """The JSON Schema of a TOML file as tables, a table for each of its own."""
    text = "\n".join(_tables(json.loads((ROOT / file).read_text(encoding="utf-8"))))
    for is_, of_toml in TOML.items():
        text = re.sub(rf"^(\| `[^`]+` \| ){is_}\b", rf"\g<1>{of_toml}", text, flags=re.M)
    return text


TOML = {"list of object": "tables", "object of object": "a table for each name", "object": "table"}
"""What an array of objects, and an object, are in TOML."""


def model(name: str) -> str:
    """A msgspec model as tables, a table a class, the outermost first."""
    module, _, cls = name.partition(":")
    found = msgspec.json.schema(getattr(importlib.import_module(module), cls))
    parts = found["$defs"]
    names = [cls, *(n for n in parts if n != cls)]
    lines: list[str] = []
    for part in names:
        if "properties" not in parts[part]:
            continue
        lines += [f"### {part}", "", _prose(parts[part].get("description", "")), ""]
        lines += [*_rows(parts[part], parts), ""]
    return "\n".join(lines)


def _prose(text: str) -> str:
    return re.sub(r"\n[ \t]+", "\n", text)


def _tables(whole: Schema) -> Iterator[str]:
    yield from (*_rows(whole, whole["$defs"]), "")
    yield from _inner(whole, whole["$defs"], "")


def _inner(part: Schema, parts: Schema, path: str) -> Iterator[str]:
    """The objects within an object: `[[stack]]`, `[axes]`, `[profile.NAME]`."""
    for key, value in part.get("properties", {}).items():
        name = f"{path}{key}"
        for mark, inner in (("[[{}]]", value.get("items")), ("[{}]", value)):
            if isinstance(inner, dict) and "properties" in inner:
                yield from (f"### `{mark.format(name)}`", "", value.get("description", ""), "")
                yield from (*_rows(inner, parts), "")
                yield from _inner(inner, parts, f"{name}.")
        each = value.get("additionalProperties")
        if isinstance(each, dict) and "properties" in each:
            yield from (f"### `[{name}.NAME]`", "", value.get("description", ""), "")
            yield from (*_rows(each, parts), "")


def _rows(part: Schema, parts: Schema) -> Iterator[str]:
    described = any("description" in value for value in part["properties"].values())
    yield from (
        ("| key | is | meaning |", "| --- | --- | --- |")
        if described
        else ("| key | is |", "| --- | --- |")
    )
    needed = part.get("required", ())
    for key, value in part["properties"].items():
        is_ = _type(value, parts) + ("" if key in needed else "; optional")
        meaning = f" {_cell(value.get('description', ''))} |" if described else ""
        yield f"| `{key}` | {_cell(is_)} |{meaning}"


def _type(value: Schema, parts: Schema) -> str:
    """What a value is, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "properties" in parts[name] else _named(name, parts)
    if "anyOf" in value:
        return " or ".join(_type(one, parts) for one in value["anyOf"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_type({**value, "type": one}, parts) for one in kind)
    if kind == "array":
        return f"list of {_type(value['items'], parts)}" if value.get("items") else "list"
    if kind == "object":
        each = value.get("additionalProperties")
        return f"object of {_type(each, parts)}" if each and each is not True else "object"
    return str(kind)


def _named(name: str, parts: Schema) -> str:
    plain = _type(parts[name], parts)
    return name if plain in ("string", "list of version") else plain


def docstring(module: str) -> str:
    """The list in a module's docstring."""
    text = importlib.import_module(module).__doc__ or ""
    return text[text.index("- ") :]


def benchmarks() -> str:
    """What was measured, beside what is promised; what is set beside other tools has its own
    table."""
    results = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    lines = [
        "| what | measured | promised | beside it, in the same run |",
        "| --- | ---: | ---: | --- |",
    ]
    for row in results["rows"]:
        if row["name"].startswith("side-by-side"):
            continue
        other = row["alternative_value"]
        beside = "" if other is None else f"{row['alternative']}: {_number(other)} {row['unit']}"
        measured, most = (f"{_number(row[key])} {row['unit']}" for key in ("value", "limit"))
        lines.append(f"| {_cell(row['what'])} | {measured} | {most} | {_cell(beside)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.5f}"


KINDS: Mapping[str, Callable[[str], str]] = {
    "benchmarks": lambda _: benchmarks(),
    "commands": lambda _: commands(),
    "docstring": docstring,
    "schema": schema,
    "type": model,
}


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = PLACE.sub(lambda found: KINDS[found[1]](found[2]), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what fills the pages."""
    app.connect("source-read", _fill)
    return {"version": "1", "parallel_read_safe": True}
