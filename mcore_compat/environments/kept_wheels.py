"""What the wheelhouse keeps: verified wheels with their records, and why a build failed."""

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
"""What the name of a damaged wheel ends with, once it is set aside."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that a wheel's ABI depends on; its text names the wheel's folder. One without a
    `torch` has nothing compiled, and fits any."""

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
    """A wheel of the wheelhouse; what was compiled for it was verified by importing it."""

    key: Key
    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Unbuildable:
    """A source-only package that does not build here: why, the line that matters, what helps;
    `cause`: the package and what of the machine decided it."""

    key: Key
    reason: str
    help: str
    log: str = ""
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is left of a wheel that was built once: the file, if any, and what is wrong with it."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def folder() -> Path:
    return files.home() / "wheelhouse"


class BuildRecord(Struct, kw_only=True, frozen=True):
    """Of `build.json` what a wheel is held against; anything else in it is for people."""

    wheel: str
    sha256: str
    cuda_toolkit: str | None = None


def build_record(key: Key) -> BuildRecord | None:
    """What was recorded of a wheel; None where there is no record, or half of one.

    Raises:
        InfrastructureError: it cannot be read.
    """
    record = _decoded(folder() / str(key) / "build.json", BuildRecord)
    # A name, no path: what it names is set aside where it is damaged.
    named = record is not None and record.wheel == Path(record.wheel).name != ""
    return record if named else None


def lookup(key: Key) -> Wheel | None:
    """The verified wheel of a key, None where there is none or it is not what was recorded; raises
    as `state`."""
    there = state(key)
    return there if isinstance(there, Wheel) else None


def state(key: Key) -> Wheel | Damage | None:
    """The wheel of a key, its digest checked; what is left of it; None where none was ever built.

    Raises:
        InfrastructureError: what is there cannot be read.
    """
    place = folder() / str(key)
    record = build_record(key)
    if record is None:
        traces = [*place.glob("*.whl"), *place.glob("build.json"), *place.glob(f"*{DAMAGED}")]
        return Damage(path=traces[0], what="has no whole record") if traces else None
    path = place / record.wheel
    try:
        digest = files.sha256_file(path)
    except FileNotFoundError:
        return Damage(path=path, what=f"is gone (recorded {record.sha256})")
    except IsADirectoryError:
        return Damage(path=path, what="is damaged (it is a folder)")
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be read: {error.strerror}") from error
    if digest != record.sha256:
        return Damage(path=path, what=f"is damaged (sha256 {digest}, recorded {record.sha256})")
    return Wheel(key=key, path=path, sha256=digest)


S = TypeVar("S", bound=Struct)


def _decoded(path: Path, kind: type[S]) -> S | None:
    """A small file of the wheelhouse; None where it is not there or not whole.

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
"""How long a failed build is not tried again: all cells of a run that need it share the answer."""


class Failure(Struct, kw_only=True, frozen=True):
    """`failed.json`: how a build failed, from which inputs."""

    help: str
    inputs: str
    log: str
    reason: str
    cause: str = ""


def remembered(key: Key, inputs: str) -> Unbuildable | None:
    """A build of this key that failed a short while ago, from the very same `inputs`.

    Raises:
        InfrastructureError: what is kept of it cannot be read.
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
    """Whether a build of this key failed a short while ago."""
    try:
        since = time.time() - (folder() / key / "failed.json").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False
    # A clock that was set back is no reason to believe it for longer.
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
