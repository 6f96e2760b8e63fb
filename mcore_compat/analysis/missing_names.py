"""What a message says is missing (a module, a name, an argument) → which releases have it, by the
interfaces of all releases. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcore_compat.analysis.error_text import SeenError
from mcore_compat.analysis.known_errors import Answer
from mcore_compat.api import definitions, lives, packages, resolution
from mcore_compat.api.interface_index import InterfaceIndex
from mcore_compat.api.resolution import InterfaceView, Missing, Target

_IMPORTED = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")
_ATTRIBUTE = re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'")
_OF_CLASS = re.compile(r"type object '(?P<module>\w+)' has no attribute '(?P<name>\w+)'")
_MODULE = re.compile(r"No module named '(?P<module>[\w.]+)'")
_ARGUMENT = re.compile(
    r"(?P<function>[\w.]+)\(\) got an unexpected keyword argument '(?P<name>\w+)'"
)

PATTERNS = (_IMPORTED, _ATTRIBUTE, _OF_CLASS, _MODULE, _ARGUMENT)

MOST = 3
"""Functions of one name that are told; of more, the message does not say which is meant."""

MOST_MOVES = 5


@dataclass(frozen=True, kw_only=True)
class Span:
    """In which releases of an index something is: `has`, one a release, None where unknown."""

    index: InterfaceIndex
    has: tuple[bool | None, ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The first and last release of each run that has it."""
        places = [at for at, has in enumerate(self.has) if has]
        starts = [at for at in places if at - 1 not in places]
        ends = [at for at in places if at + 1 not in places]
        return [*zip(starts, ends, strict=True)]

    @property
    def text(self) -> str:
        """`in megatron-core 0.12.0 to 0.13.1, not in 0.14.0`."""
        versions, last = self.index.releases, len(self.has) - 1
        package = self.index.package.name
        if not self.runs:
            return f"in no release of {package} from {versions[0]} to {versions[last]}"
        if self.runs == [(0, last)]:
            return f"in all releases of {package} from {versions[0]} to {versions[last]}"
        between = (
            f"{versions[a]} to {versions[b]}" if a != b else versions[a] for a, b in self.runs
        )
        (first, _), (_, end) = self.runs[0], self.runs[-1]
        without = [versions[first - 1]] if first else []
        without += [versions[end + 1]] if end < last else []
        lacks = f", not in {' and '.join(without)}" if without else ""
        return f"in {package} {' and '.join(between)}{lacks}"

    @property
    def take(self) -> str:
        """Which releases to take; empty if no release would help."""
        versions, last = self.index.releases, len(self.has) - 1
        if not self.runs or self.runs == [(0, last)]:
            return ""
        first, end = self.runs[-1]
        which = f"{versions[first]} to {versions[end]}"
        if end == last:
            which = f"{versions[first]} or newer"
        elif first == 0:
            which = f"{versions[end]} or older"
        return f"take: {self.index.package.name} {which}"


def is_one(error: SeenError) -> bool:
    """Whether an error names something that is missing."""
    return any(pattern.search(message) for pattern in PATTERNS for message in error.messages)


def answer(error: SeenError, indexes: Sequence[InterfaceIndex]) -> Answer | None:
    """Which releases have what an error misses; None where that is not theirs, or not known."""
    for message in error.messages:
        for pattern in PATTERNS:
            if match := pattern.search(message):
                found = match.groupdict()
                if pattern is _ARGUMENT:
                    return _of_argument(found["function"], found["name"], indexes)
                if pattern is _OF_CLASS:
                    return _of_class(found["module"], found["name"], indexes)
                return _of_path(found["module"], found.get("name"), message, indexes)
    return None


def _views(index: InterfaceIndex) -> list[InterfaceView]:
    return [InterfaceView(index, place) for place in range(len(index.releases))]


def _span(index: InterfaceIndex, path: str) -> Span:
    """In which releases a dotted name is."""
    root = index.package.root
    names = tuple(path[len(root) + 1 :].split("."))
    has: list[bool | None] = []
    for view in _views(index):
        found = view.resolve(Target(module=root, names=names))
        unknown = not isinstance(found, Missing) and all(one.open for one in found)
        has.append(None if unknown else not isinstance(found, Missing))
    return Span(index=index, has=tuple(has))


def _of_path(
    module: str, name: str | None, message: str, indexes: Sequence[InterfaceIndex]
) -> Answer | None:
    path = f"{module}.{name}" if name else module
    owner = packages.owner(module)
    index = next((i for i in indexes if i.package is owner), None)
    if index is None or path == index.package.root:
        return None if index else _beside(path, indexes)
    span = _span(index, path)
    if None in span.has:
        return None
    rest = [span.take] if span.take else []
    if span.has[-1] is False:
        rest += [f"now: {new}" for new in _now(index, path, span)]
    if "(unknown location)" in message:
        rest.append(
            f"unknown location: Python found a folder of that name without {module}'s own code, "
            "e.g. in the working directory, or as another installation left it"
        )
    elif all(span.has):
        rest.append(f"yours is another: python -m pip show {index.package.name}")
    return _with_source(f"{path} is {span.text}", rest, path)


def _beside(path: str, indexes: Sequence[InterfaceIndex]) -> Answer | None:
    """A module beside the part of a package that is its interface."""
    top = path.partition(".")[0]
    for index in indexes:
        root = index.package.root
        if root.startswith(f"{top}.") and path != top:
            first = f"{path} is not below {root}, which is what {index.package.name} is read for"
            rest = (
                f"take: the repository that {index.package.name} is made of, at the tag of its "
                f"version, and put it on PYTHONPATH: other parts of {top} are there, and in wheels "
                "not at all, or in part",
            )
            return Answer(first, rest)
    return None


def _now(index: InterfaceIndex, path: str, span: Span) -> Iterator[str]:
    """Where the newest release has what was at a path."""
    if not span.runs:
        last = path.rpartition(".")[2]
        newest = InterfaceView(index, len(index.releases) - 1)
        there = [module for module, _ in resolution.candidates(newest, last)]
        yield from (f"{module}.{last}" for module in there if len(there) == 1)
        return
    place = span.runs[-1][1] + 1
    for _ in range(MOST_MOVES):
        path = lives.moved_to(index, path, place - 1, place)
        if not path:
            return
        there_now = _span(index, path)
        if there_now.has[-1]:
            yield path
            return
        if not there_now.runs:
            return
        place = there_now.runs[-1][1] + 1


def _of_class(cls: str, name: str, indexes: Sequence[InterfaceIndex]) -> Answer | None:
    for index in indexes:
        for module, class_name in lives.find(index, cls)[:1]:
            path = f"{module}.{class_name}.{name}"
            span = _span(index, path)
            if None not in span.has and any(span.has) and not all(span.has):
                return _with_source(f"{path} is {span.text}", [span.take], path)
    return None


def _of_argument(function: str, name: str, indexes: Sequence[InterfaceIndex]) -> Answer | None:
    """Functions that a message names, and in which releases they take an argument."""

    def sentence(path: str, span: Span) -> str:
        return f"{path} takes {name} {span.text}"

    last = function.rpartition(".")[2]
    if function == last and last.startswith("__"):
        return None
    spans = [
        (f"{module}.{own}", span)
        for index in indexes
        for module, own in _functions(index, function)
        if (span := _takes(index, module, own, name)) is not None
    ]
    taking = [(path, span) for path, span in spans if any(span.has)]
    # A bare name may be anybody's: only that one takes the argument tells that it is theirs.
    shown = taking or (spans if "." in function else [])
    if not spans and "." in function:
        return _of_override(function, name, indexes)
    if not shown or len(shown) > MOST:
        return None
    path, span = shown[0]
    rest = [span.take] if span.take else []
    if all(span.has):
        rest.append(f"yours is another {last} than these releases', e.g. an older one")
    rest += [f"also: {sentence(*other)}" for other in shown[1:]]
    return _with_source(sentence(path, span), rest, path)


def _functions(index: InterfaceIndex, function: str) -> list[tuple[str, str]]:
    return [
        (module, name)
        for module, by_name in index.modules.items()
        for name, changes in by_name.items()
        if name
        and f".{name}".endswith(f".{function}")
        and any(text and "def" in text for _, text in changes)
    ]


def _takes(
    index: InterfaceIndex, module: str, function: str, name: str, *, by_name: bool = False
) -> Span | None:
    """In which releases a function takes an argument (`by_name`: not only as any other); None where
    that is not known."""
    has = []
    for place in range(len(index.releases)):
        text = index.at(module, function, place)
        read = definitions.read(text) if text else ()
        if any(one.opaque or not one.word.endswith(("def", "method")) for one in read):
            return None
        kinds = {p.kind for one in read for p in one.parameters}
        named = any(p.name == name for one in read for p in one.parameters)
        has.append(named or (not by_name and definitions.KWARGS in kinds))
    return Span(index=index, has=tuple(has))


def _of_override(function: str, name: str, indexes: Sequence[InterfaceIndex]) -> Answer | None:
    """A method of a class that is of none of the packages, where theirs of the same name take an
    argument from some release on: who calls it is from then, and the class from before."""
    method = function.rpartition(".")[2]
    for index in () if method.startswith("__") else indexes:
        firsts: dict[int, str] = {}
        for module, own in _functions(index, method):
            span = _takes(index, module, own, name, by_name=True) if "." in own else None
            if span and span.runs:
                firsts.setdefault(span.runs[0][0], f"{module}.{own}")
        first = min(firsts, default=0)
        if first:
            package, version = index.package.name, index.releases[first]
            text = (
                f"{function} is of another package; {package}'s own methods {method} take {name} "
                f"from {version} on"
            )
            take = (
                f"take: {package} {index.releases[first - 1]} or older, or a release of the other "
                f"package that goes with {package} {version}"
            )
            return _with_source(text, [take, f"e.g.: {firsts[first]}"], firsts[first])
    return None


def _with_source(first: str, rest: Sequence[str], path: str) -> Answer:
    more = f"read from: the sources of the releases; more: mcore-compat api {path}"
    return Answer(first, (*rest, more))
