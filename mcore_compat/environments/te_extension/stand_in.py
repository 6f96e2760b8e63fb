"""The wheel of the stand-in in the wheelhouse: made when it is needed and missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from mcore_compat.base import files, temporary
from mcore_compat.environments import plain_wheel, wheelhouse
from mcore_compat.environments.kept_wheels import Key, Wheel, folder, lookup
from mcore_compat.environments.te_extension import wheel
from mcore_compat.index import package_index
from mcore_compat.resolve.locks import Pin

VARIANT = "-stand-in-"


def key_of(version: str) -> Key:
    """The key of a release's stand-in. It includes a digest of the code that makes the stand-in,
    and no version of torch or Python."""
    texts = [*sorted(Path(__file__).parent.glob("*.py")), Path(plain_wheel.__file__)]
    digest = files.sha256_bytes(b"".join(path.read_bytes() for path in texts))
    return Key(package=wheel.PACKAGE, version=version, variant=f"{VARIANT}{digest[:8]}")


def stands_in(wheels: Iterable[Wheel]) -> bool:
    """Whether one of the wheels is a stand-in."""
    return any(one.key.variant.startswith(VARIANT) for one in wheels)


def ensure(pin: Pin, say: Callable[[str], None]) -> Wheel:
    """The stand-in of a pinned release, from the wheelhouse or made now.

    Raises:
        InfrastructureError: the network or the disk failed, or the names cannot be read from the
            release's sources.
    """
    key = key_of(pin.version)
    place = folder() / str(key)
    with files.disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".lock"):
            there = lookup(key)
            if there:
                return there
            say(f"making {key} from the release's sources")
            started = time.monotonic()
            with temporary.folder() as work:
                sdist = package_index.download_sdist(pin.name, pin.version, pin.hashes, work)
                made = wheel.make(sdist, pin.version, work)
                return wheelhouse.record(key, made, pin, None, time.monotonic() - started)
