"""The Python names that a release's torch extension defines, read from its C++ sources.

pybind11 defines functions with `m.def("name", …)`, enums and classes with `py::enum_` and
`py::class_` and a chain of calls. Nothing is compiled. Macros have the values that the release's
build script sets by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

_CHAIN = re.compile(r"\s*\.\s*(\w+)\s*\(")
_REGISTERED = re.compile(r"(?:py|pybind11)::(enum_|class_)\s*(?=<)")
_FUNCTION = re.compile(r'\b(\w+)\s*\.\s*def\s*\(\s*"(\w+)"')
_NUMBER = re.compile(r'\.attr\(\s*"(\w+)"\s*\)\s*=\s*(?:py|pybind11)::int_\(([^()]*)\)')
_SUBMODULE = re.compile(r'(\w+)\s*=\s*\w+\s*\.\s*def_submodule\(\s*"(\w+)"')
_CLASS_OF = re.compile(r'(\w+)\s*=\s*\w+\.attr\(\s*"(\w+)"\s*\)')
_COMPARES = re.compile(r'(\w+)\.attr\(\s*"__eq__"\s*\)\s*=')
_ENUM = re.compile(r"\benum\s+(class\s+|struct\s+|)(\w*)\s*(?::\s*[\w:]+\s*)?\{([^{}]*)\}\s*(\w*)")
"""Scope, name, body, and the name after the body, as in C's `typedef enum {…} name`."""
_CONSTANT = re.compile(r"\bconst(?:expr)?\s+\w+\s+(\w+)\s*=\s*(\w+)\s*;")
_DEFAULT_ON = re.compile(r"""os\.getenv\("(\w+)",\s*"1"\)""")
_FLAG = re.compile(r'"-D(\w+)')
_COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\\n])*")', re.DOTALL)


class UnreadableError(ValueError):
    """The sources do not define a name in a form that can be read; the message names it."""


@dataclass(frozen=True, kw_only=True)
class EnumBinding:
    """An enum. `members`: names and numbers; `integral`: members are equal to their numbers, as in
    an unscoped C++ enum or if the release defines `__eq__`."""

    members: Mapping[str, int]
    integral: bool


@dataclass(frozen=True, kw_only=True)
class ClassBinding:
    """A class. `plain`: it can be constructed without arguments, which runs no kernel."""

    bases: tuple[str, ...]
    plain: bool
    attributes: tuple[str, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Bindings:
    """Everything in the module, by name. `modules`: the submodules with their functions."""

    functions: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, int]
    enums: Mapping[str, EnumBinding]
    classes: Mapping[str, ClassBinding]


def read(sources: Mapping[str, str]) -> Bindings:
    """The bindings in a source distribution. `sources`: C++ files and build scripts, text by path.

    Raises:
        UnreadableError: there are no bindings, or a number cannot be read.
    """
    scripts = "\n".join(text for path, text in sources.items() if path.endswith(".py"))
    macros = {"__cplusplus", *(set(_DEFAULT_ON.findall(scripts)) & set(_FLAG.findall(scripts)))}
    texts = {path: _plain(t, macros) for path, t in sources.items() if not path.endswith(".py")}
    bound = "\n".join(text for path, text in sorted(texts.items()) if "pybind" in text.lower())
    declared = "\n".join(texts.values())
    submodules = dict(_SUBMODULE.findall(bound))
    functions = [(submodules.get(owner), name) for owner, name in _FUNCTION.findall(bound)]
    if not functions:
        raise UnreadableError("no function is bound to Python")
    constants: dict[str, str] = dict(_CONSTANT.findall(declared))
    of_class, integral = dict(_CLASS_OF.findall(bound)), set(_COMPARES.findall(bound))
    compared = {name for variable, name in of_class.items() if variable in integral}
    registered = list(_registered(bound))
    names = {_last(r.types[0]): r.name for r in registered if r.kind == "class_"}
    return Bindings(
        functions=_sorted(name for module, name in functions if module is None),
        modules={
            module: _sorted(name for owner, name in functions if owner == module)
            for module in sorted(submodules.values())
        },
        numbers={n: _number(value, constants) for n, value in sorted(_NUMBER.findall(bound))},
        enums={
            r.name: _enum(r, declared, compared=r.name in compared)
            for r in registered
            if r.kind == "enum_"
        },
        classes={r.name: _class(r, names) for r in registered if r.kind == "class_"},
    )


def _sorted(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _plain(text: str, macros: Set[str]) -> str:
    """A source with continued lines joined, without comments, and without code that is compiled
    only if a macro outside `macros` is defined."""
    text = _COMMENT.sub(lambda match: match[1] or " ", text.replace("\\\n", " "))
    kept, dropped = [], []
    for line in text.splitlines():
        word = re.match(r"\s*#\s*(\w+)\s*(\w*)", line)
        directive = word[1] if word else ""
        if word and directive.startswith("if"):
            dropped.append(directive == "ifdef" and word[2] not in macros)
        elif directive in ("else", "elif") and dropped:
            dropped[-1] = not dropped[-1] if directive == "else" else dropped[-1]
        elif directive == "endif" and dropped:
            dropped.pop()
        elif not any(dropped) and (not directive or directive == "define"):
            kept.append(line)
    return "\n".join(kept)


@dataclass(frozen=True, kw_only=True)
class _Registered:
    """One `py::enum_<…>(m, "name").x(…).y(…)`. `calls`: each method and the text of its
    arguments."""

    kind: str
    types: tuple[str, ...]
    name: str
    calls: tuple[tuple[str, str], ...]


def _registered(text: str) -> Iterator[_Registered]:
    for match in _REGISTERED.finditer(text):
        types, end = _inside(text, match.end(), "<>")
        opened = text.index("(", end)
        arguments, end = _inside(text, opened, "()")
        name = re.search(r'"(\w+)"', arguments)
        if name is None:
            raise UnreadableError(f"the Python name of {types} cannot be read")
        calls = []
        while call := _CHAIN.match(text, end):
            inner, end = _inside(text, call.end() - 1, "()")
            calls.append((call[1], inner))
        words = tuple(part.strip() for part in _split(types))
        yield _Registered(kind=match[1], types=words, name=name[1], calls=tuple(calls))


def _inside(text: str, start: int, pair: str) -> tuple[str, int]:
    """The text between the bracket at `start` and its partner, and the position after the
    partner.

    Raises:
        UnreadableError: the bracket has no partner.
    """
    depth, place = 0, start
    while place < len(text):
        letter = text[place]
        if letter == '"':
            place = _end_of_string(text, place)
        elif letter == pair[0]:
            depth += 1
        elif letter == pair[1] and text[place - 1] != "-":  # `->` closes nothing
            depth -= 1
            if depth == 0:
                return text[start + 1 : place], place + 1
        place += 1
    raise UnreadableError(f"{text[start : start + 40]!r} has no end")


def _end_of_string(text: str, start: int) -> int:
    match = re.compile(r'"(?:\\.|[^"\\])*"').match(text, start)
    if match is None:
        raise UnreadableError(f"{text[start : start + 40]!r} has no end")
    return match.end() - 1


def _split(text: str) -> Iterator[str]:
    """Split a text at the commas outside brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "<([") - (letter in ">)]")
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _last(name: str) -> str:
    return name.strip().rpartition("::")[2]


def _enum(enum: _Registered, declared: str, *, compared: bool) -> EnumBinding:
    """An enum, with the numbers from its C++ declaration."""
    pairs = [tuple(_split(text)) for method, text in enum.calls if method == "value"]
    wanted = {pair[0].strip().strip('"'): _last(pair[1]) for pair in pairs}
    for scope, before, body, after in _ENUM.findall(declared):
        numbers = _enumerators(body) if _last(enum.types[0]) in (before, after) else {}
        if numbers and set(wanted.values()) <= numbers.keys():
            members = {member: numbers[enumerator] for member, enumerator in wanted.items()}
            return EnumBinding(members=members, integral=compared or not scope)
    raise UnreadableError(f"the sources do not declare the enum {enum.types[0]}")


def _enumerators(body: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    value = -1
    for text in filter(str.strip, _split(body)):
        name, _, said = (part.strip() for part in text.partition("="))
        value = _number(said, {n: str(v) for n, v in numbers.items()}) if said else value + 1
        numbers[name] = value
    return numbers


def _number(text: str, constants: Mapping[str, str]) -> int:
    word = constants.get(_last(text), text.strip())
    try:
        return int(word, 0)
    except ValueError:
        raise UnreadableError(f"the sources do not say which number {text.strip()} is") from None


def _class(registered: _Registered, names: Mapping[str, str]) -> ClassBinding:
    calls = registered.calls
    bases = (names.get(_last(kind), "") for kind in registered.types[1:])

    def named(*methods: str) -> tuple[str, ...]:
        texts = (text for method, text in calls if method in methods)
        return tuple(m[1] for text in texts if (m := re.match(r'\s*"(\w+)"', text)))

    return ClassBinding(
        bases=tuple(filter(None, bases)),
        plain=any(re.match(r"\s*(?:py|pybind11)::init<>\(\)", text) for _, text in calls),
        attributes=named("def_readwrite", "def_readonly", "def_property", "def_property_readonly"),
        methods=named("def"),
    )
