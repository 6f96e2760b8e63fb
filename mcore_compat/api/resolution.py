"""Resolves a dotted name in one release: found, missing, or unknown. Pure.

Names from other packages, from compiled modules or by `__getattr__` are unknown: only names that
are certainly missing are called missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mcore_compat.api import definitions
from mcore_compat.api.definitions import Definition, FunctionParameter
from mcore_compat.api.interface_index import InterfaceIndex

MOST_STEPS = 30
"""Maximum aliases in a chain; more is a cycle."""

CLOSED_BASES = frozenset(
    {"object", "abc.ABC", "ABC", "enum.Enum", "enum.IntEnum", "typing.Generic", "typing.Protocol"}
)
"""Bases of other packages that add no names beyond those of every object."""

ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.Flag", "enum.IntFlag"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """A name that code uses: a module and a chain of attribute `names`."""

    module: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.module, *self.names))

    def below(self, *names: str) -> Target:
        """An attribute of it."""
        return replace(self, names=(*self.names, *names))


@dataclass(frozen=True, kw_only=True)
class Found:
    """A resolved name: a module, a definition of the index (`name` within `module`), or something
    unknown (`open`)."""

    module: str = ""
    name: str = ""
    definition: Definition | None = None
    owner: str = ""
    """For a member: the class through which it was reached, in the same module."""

    @property
    def open(self) -> bool:
        return not self.module

    @property
    def path(self) -> str:
        """Where it is defined."""
        return f"{self.module}.{self.name}" if self.name else self.module


OPEN = Found()


@dataclass(frozen=True, kw_only=True)
class Missing:
    """The first part of a name that is missing."""

    path: str
    of_class: bool = False


@dataclass(frozen=True)
class InterfaceView:
    """One release of an index, at position `place`."""

    index: InterfaceIndex
    place: int

    @property
    def version(self) -> str:
        return self.index.releases[self.place]

    def resolve(self, target: Target) -> tuple[Found, ...] | Missing:
        """The definitions of a name, one for each branch; or the part that is missing in all."""
        found, missing = self._resolve(target, MOST_STEPS)
        return found or missing or (OPEN,)

    def constructor(self, cls: Found) -> Found:
        """`__init__` of a class; open if another package defines it."""
        if cls.definition is None or cls.definition.opaque:
            return OPEN
        initialised = self._member(cls, "__init__", 0)
        # Bases of other packages, such as torch's, accept any arguments.
        made = self._member(cls, "__new__", 0)
        return initialised[0] if initialised and len(initialised) == 1 and not made else OPEN

    def member(self, cls: Found, name: str) -> tuple[Found, ...] | None:
        """A member of a class or its bases, one for each branch; empty if there is none, None if
        unknown."""
        return self._member(cls, name, 0)

    def _text(self, module: str, name: str) -> str | None:
        return self.index.at(module, name, self.place)

    def _resolve(self, target: Target, steps: int) -> tuple[tuple[Found, ...], Missing | None]:
        module = self._module(target.module)
        if isinstance(module, Missing):
            return (), module
        if module is OPEN or steps <= 0:
            return (OPEN,), None
        return self._walk(module, target.names, steps)

    def _module(self, path: str) -> Found | Missing:
        """A module, imported as one."""
        root = self.index.package.root
        if path != root and not path.startswith(f"{root}."):
            return OPEN
        if self._text(path, "") is not None:
            return Found(module=path)
        parts = path.split(".")
        for end in range(len(root.split(".")), len(parts) + 1):
            above = ".".join(parts[:end])
            text = self._text(above, "")
            if text == definitions.OPEN_MODULE:
                return OPEN
            if text is None:
                over, _, last = above.rpartition(".")
                # `import other as name` also provides other's modules.
                return OPEN if self._text(over, last) is not None else Missing(path=above)
        return Missing(path=path)

    def _walk(
        self, module: Found, names: Sequence[str], steps: int
    ) -> tuple[tuple[Found, ...], Missing | None]:
        if not names:
            return (module,), None
        text = self._text(module.module, names[0])
        below = f"{module.module}.{names[0]}"
        # A module may import its own submodule by name.
        if text is None or text == definitions.alias(below):
            if self._text(below, "") is not None:
                return self._walk(Found(module=below), names[1:], steps)
            if self._text(module.module, "") == definitions.OPEN_MODULE or _is_special(names[0]):
                return (OPEN,), None
            return (), Missing(path=below)
        every: list[Found] = []
        missing: Missing | None = None
        for definition in definitions.read(text):
            here = Found(module=module.module, name=names[0], definition=definition)
            found, lacks = self._of(here, names[1:], steps)
            every += found
            missing = missing or lacks
        return tuple(every), missing

    def _of(
        self, here: Found, names: Sequence[str], steps: int
    ) -> tuple[tuple[Found, ...], Missing | None]:
        """Resolve attribute names of a definition."""
        definition = here.definition
        assert definition is not None
        if definition.word == "alias":
            found, missing = self._resolve(_split(definition.target, self), steps - 1)
            if missing or len(found) != 1 or found[0].open:
                return (OPEN,), None  # its origin is unknown: not the code's fault
            there = found[0]
            if there.definition is None:
                return self._walk(there, names, steps - 1)
            return self._of(there, names, steps - 1)
        if not names:
            return (here,), None
        if definition.word != "class":
            return (OPEN,), None
        members = self._member(here, names[0], 0)
        if members is None or (not members and _is_special(names[0])):
            return (OPEN,), None
        if not members:
            return (), Missing(path=f"{here.path}.{names[0]}", of_class=True)
        if len(names) > 1:
            return (OPEN,), None
        return members, None

    def _member(self, cls: Found, name: str, depth: int) -> tuple[Found, ...] | None:
        definition = cls.definition
        assert definition is not None
        text = self._text(cls.module, f"{cls.name}.{name}")
        if text is not None:
            return tuple(
                Found(module=cls.module, name=f"{cls.name}.{name}", definition=one, owner=cls.name)
                for one in definitions.read(text)
            )
        if definition.opaque or depth > MOST_STEPS:
            return None
        for base in definition.bases:
            if base in CLOSED_BASES and (base not in ENUMS or not name.startswith("__")):
                continue
            there = self._class(base)
            members = None if there is None else self._member(there, name, depth + 1)
            if members is None or members:
                return members
        return ()

    def _class(self, path: str) -> Found | None:
        """The class of a base's name; None if unknown."""
        found, _ = self._resolve(_split(path, self), MOST_STEPS)
        if len(found) != 1 or found[0].definition is None or found[0].definition.word != "class":
            return None
        return found[0]


def _split(path: str, view: InterfaceView) -> Target:
    """A dotted name of a package, as names below its root."""
    root = view.index.package.root
    if path == root or not path.startswith(f"{root}."):
        return Target(module=path)
    return Target(module=root, names=tuple(path[len(root) + 1 :].split(".")))


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def parameters(found: Found, *, bound: bool) -> tuple[FunctionParameter, ...] | None:
    """The parameters that a call of a function must fit; None if unknown. `bound`: called through
    an instance or `super()`, so that `self` is already given."""
    definition = found.definition
    if definition is None or definition.opaque:
        return None
    if definition.word not in ("def", "staticmethod", "classmethod"):
        return None
    own = found.owner and ((bound and definition.word == "def") or definition.word == "classmethod")
    if not own:
        return definition.parameters
    first = definition.parameters[:1]
    # In `def f(*args)`, self is one of args.
    return (
        definition.parameters[1:]
        if first and first[0].kind < definitions.ARGS
        else definition.parameters
    )


def candidates(view: InterfaceView, name: str) -> Iterator[tuple[str, str]]:
    """The definitions of a name in a release, without imports: module and text."""
    for module, by_name in view.index.modules.items():
        text = view._text(module, name) if name in by_name else None
        if (
            text is not None
            and not text.startswith(definitions.ALIAS)
            and text != definitions.FOREIGN
        ):
            yield module, text
