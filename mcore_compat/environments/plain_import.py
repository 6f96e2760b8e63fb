"""Finds the environment variables that a user must set to import Transformer Engine.

The runner sets variables for every cell. A user who installs the same packages has none of them, so
the results must say if TE cannot be imported without. They are found by trying, once for each TE
with all packages that its import depends on. No variables are needed if TE can be imported after
torch, as Megatron imports it; otherwise the variables that are named suffice in either order.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from mcore_compat.base import files
from mcore_compat.base.processes import Runner
from mcore_compat.environments import process_variables

SITE = "<site-packages>"
"""A placeholder for the folder where the packages are installed."""

IMPORT = "import transformer_engine.pytorch"
AFTER_TORCH = f"import torch; {IMPORT}"
LIMIT_S = 180.0
"""Time limit of one trial in seconds."""

OURS = ("CUDA_HOME", "LD_LIBRARY_PATH", "CUDNN_HOME", "NVRTC_HOME", "CURAND_HOME")
"""The variables set for TE, in the order in which they are tried."""

_DECIDING = re.compile(r"nvidia-(?!modelopt)|torch$|transformer-engine|triton$|python$")
"""Packages on which TE's import depends."""

_PLATLIB = """python -c 'import sysconfig; print(sysconfig.get_path("platlib"))'"""
_LIBRARIES = (
    """python -c 'import glob, sysconfig; """
    """print(":".join(sorted(glob.glob(sysconfig.get_path("platlib") + "/nvidia/*/lib"))))'"""
)


def needed(
    python: Path,
    variables: Mapping[str, str],
    pins: Mapping[str, str],
    run: Runner,
    say: Callable[[str], None],
) -> dict[str, str] | None:
    """The smallest set of a cell's `variables` with which TE can be imported; empty if none is
    needed. None if unknown: the import fails with all of them, too, or a trial took too long.

    `pins`: version by package; the result is cached by the relevant ones. Values contain `SITE` in
    place of the packages' folder.
    """
    deciding = {name: version for name, version in pins.items() if _DECIDING.match(name)}
    digest = files.sha256_bytes(files.dump_json({**deciding, "": AFTER_TORCH}).encode())[:16]
    path = files.home() / "plain-import" / f"{digest}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        pass
    names = _tried(python, variables, run, say)
    if names is None:
        return None
    answer = {name: _as_below(name, variables[name]) for name in names}
    files.write_text(path, files.dump_json(answer), durable=False)
    return answer


def _tried(
    python: Path, variables: Mapping[str, str], run: Runner, say: Callable[[str], None]
) -> tuple[str, ...] | None:
    """The names of the smallest set of variables with which the import works."""

    def imports(names: tuple[str, ...], statement: str = IMPORT) -> bool | None:
        """Whether the import works with these variables; None: it took too long."""
        env = {**plain(python, variables), **{name: variables[name] for name in names}}
        done = run([python, "-c", statement], timeout=LIMIT_S, env=env)
        return None if done.timed_out else done.ok

    say("checking whether Transformer Engine can be imported without extra variables")
    bare = imports((), AFTER_TORCH)
    if bare is not False:
        return () if bare else None
    ours = tuple(name for name in OURS if name in variables)
    if not imports(ours):
        return None
    for count in range(1, len(ours)):
        for names in itertools.combinations(ours, count):
            if imports(names):
                return names
    return ours


def plain(python: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a user who only installed the packages and has no CUDA toolkit. The
    driver's library is found, as on a machine with a GPU; its stand-in is last on a cell's path."""
    ours = {*OURS, "NVTE_CUDA_INCLUDE_DIR"}
    values = {name: value for name, value in variables.items() if name not in ours}
    values["PATH"] = f"{python.parent}:/usr/bin:/bin"
    last = variables.get("LD_LIBRARY_PATH", "").rpartition(":")[2]
    if (Path(last) / process_variables.DRIVER).exists():
        values["LD_LIBRARY_PATH"] = last
    return values


def _as_below(name: str, value: str) -> str:
    if name == "LD_LIBRARY_PATH":
        return f"{SITE}/nvidia/*/lib"
    return re.sub(r"^.*/site-packages(?=/)", SITE, value)


def exports(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Shell commands that set the variables, if the environment's `python` is on PATH."""
    return tuple(_lines(variables))


def _lines(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(variables.items()):
        if "*" in value:
            rest = f"${{{name}:+:${name}}}"
            yield f'export {name}="$({_LIBRARIES}){rest}"'
        else:
            yield f'export {name}="$({_PLATLIB}){value.removeprefix(SITE)}"'


def lacking(variables: Mapping[str, str], environ: Mapping[str, str], site: Path) -> list[str]:
    """The variables that are not set to the folders below `site`."""
    return [
        name
        for name, value in sorted(variables.items())
        if not _names(environ.get(name, ""), value.replace(SITE, os.fspath(site)))
    ]


def _names(there: str, value: str) -> bool:
    """Whether a variable is set; a path list must contain at least one of the folders."""
    if "*" not in value:
        return bool(there)
    start = value.partition("*")[0]
    return any(part.startswith(start) for part in there.split(":"))
