"""The files of the wheelhouse: verified wheels with their records, and reasons of failed builds."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError

DAMAGED = ".damaged"
"""The suffix of a damaged wheel that was set aside."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that a wheel's ABI depends on; its text is the name of the wheel's folder. A key
    without `torch` is for a wheel without compiled parts, which fits any."""

    package: str
    version: str
    torch: str = ""
    python: str = ""
    cuda: int = 0
    variant: str = ""

    def __str__(self) -> str:
        if not self.torch:
            return f"{self.package}-{self.version}{self.variant}"
        machine = f"linux_{platform.machine()}"
        name = f"{self.package}-{self.version}-torch{self.torch}-py{self.python}-cu{self.cuda}"
        return f"{name}-{machine}{self.variant}"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel of the wheelhouse; compiled parts were verified by importing them."""

    key: Key
    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Unbuildable:
    """A source-only package that cannot be built here: `reason`, what may help, the log; `cause`:
    the package and the properties of the machine that decide it."""

    key: Key
    reason: str
    help: str
    log: str = ""
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A damaged or missing wheel that was built before: its path, and what is wrong."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def folder() -> Path:
    return files.home() / "wheelhouse"


class BuildRecord(Struct, kw_only=True, frozen=True):
    """The fields of `build.json` that verify a wheel; the others are for people."""

    wheel: str
    sha256: str
    cuda_toolkit: str | None = None


def build_record(key: Key) -> BuildRecord | None:
    """The record of a wheel; None if there is none, or it is incomplete.

    Raises:
        InfrastructureError: it cannot be read.
    """
    record = _decoded(folder() / str(key) / "build.json", BuildRecord)
    # It must be a name, not a path: a damaged file of this name is moved.
    named = record is not None and record.wheel == Path(record.wheel).name != ""
    return record if named else None


def lookup(key: Key) -> Wheel | None:
    """The verified wheel of a key; None if there is none or it differs from its record; raises as
    `state`."""
    there = state(key)
    return there if isinstance(there, Wheel) else None


def state(key: Key) -> Wheel | Damage | None:
    """The verified wheel of a key, or what is wrong with it; None if none was ever built.

    Raises:
        InfrastructureError: a file cannot be read.
    """
    place = folder() / str(key)
    record = build_record(key)
    if record is None:
        traces = [*place.glob("*.whl"), *place.glob("build.json"), *place.glob(f"*{DAMAGED}")]
        return Damage(path=traces[0], what="has no complete record") if traces else None
    path = place / record.wheel
    try:
        digest = files.sha256_file(path)
    except FileNotFoundError:
        return Damage(path=path, what=f"is missing (recorded {record.sha256})")
    except IsADirectoryError:
        return Damage(path=path, what="is damaged (it is a folder)")
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be read: {error.strerror}") from error
    if digest != record.sha256:
        return Damage(path=path, what=f"is damaged (sha256 {digest}, recorded {record.sha256})")
    return Wheel(key=key, path=path, sha256=digest)


S = TypeVar("S", bound=Struct)


def _decoded(path: Path, kind: type[S]) -> S | None:
    """A JSON file of the wheelhouse; None if it is missing or incomplete.

    Raises:
        InfrastructureError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, RecursionError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InfrastructureError(f"{path} cannot be read: {error}") from error


REMEMBER_S = 3600.0
"""How long a failed build is not repeated, so that all cells of a run share the result."""


class Failure(Struct, kw_only=True, frozen=True):
    """`failed.json`: why a build failed, and from which inputs."""

    help: str
    inputs: str
    log: str
    reason: str
    cause: str = ""


def remembered(key: Key, inputs: str) -> Unbuildable | None:
    """A recent failed build of this key with the same `inputs`; None if there is none.

    Raises:
        InfrastructureError: its record cannot be read.
    """
    failure = _decoded(folder() / str(key) / "failed.json", Failure)
    if failure is None or failure.inputs != inputs or not failed_lately(str(key)):
        return None
    return Unbuildable(
        key=key,
        reason=failure.reason,
        help=failure.help,
        log=failure.log,
        cause=failure.cause,
    )


def failed_lately(key: str) -> bool:
    """Whether a build of this key failed recently."""
    try:
        since = time.time() - (folder() / key / "failed.json").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False
    # Negative if the clock was set back: not recent then.
    return 0 <= since < REMEMBER_S


def remember(failed: Unbuildable, inputs: str) -> None:
    failure = Failure(
        help=failed.help,
        inputs=inputs,
        log=failed.log,
        reason=failed.reason,
        cause=failed.cause,
    )
    text = files.dump_json(msgspec.to_builtins(failure))
    files.write_text(folder() / str(failed.key) / "failed.json", text)
