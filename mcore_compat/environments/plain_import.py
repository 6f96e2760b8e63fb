"""What Transformer Engine needs set to be imported, that a plain environment does not have.

The runner sets variables for every cell. Who installs the same packages has none of them: where TE
is imported only with them, that has to be told. Found by trying, once for each TE with all that its
import depends on. A plain environment is enough where TE can be imported after torch, as Megatron
imports it; where it cannot, what is told is enough in either order.
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
"""Stands for the folder of the packages, wherever they are installed."""

IMPORT = "import transformer_engine.pytorch"
AFTER_TORCH = f"import torch; {IMPORT}"
LIMIT_S = 180.0
"""Seconds for one trial."""

OURS = ("CUDA_HOME", "LD_LIBRARY_PATH", "CUDNN_HOME", "NVRTC_HOME", "CURAND_HOME")
"""What is set for TE's sake; the first that is enough by itself is told."""

_DECIDING = re.compile(r"nvidia-(?!modelopt)|torch$|transformer-engine|triton$|python$")
"""Packages on which it depends whether TE is imported."""

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
    """The fewest of the `variables` of a cell's processes without which TE is not imported: empty
    where a plain environment is enough. None where that cannot be told: it is not imported with all
    of them either, or a trial took too long.

    `pins`: version by package; the answer is kept for those that decide. Their folders are
    written as below `SITE`.
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
    """The names of the fewest variables with which it is imported."""

    def imports(names: tuple[str, ...], statement: str = IMPORT) -> bool | None:
        """Whether it is imported with these of ours; None: it took too long."""
        env = {**plain(python, variables), **{name: variables[name] for name in names}}
        done = run([python, "-c", statement], timeout=LIMIT_S, env=env)
        return None if done.timed_out else done.ok

    say("looking whether Transformer Engine is imported without the variables that are set here")
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
    """The environment of who has only installed the packages, and has no CUDA toolkit. The driver's
    library is found: a machine with a GPU has it, and its stand-in is last on a cell's path."""
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
    """Lines for a shell in which the environment's `python` is first, one for each variable."""
    return tuple(_lines(variables))


def _lines(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(variables.items()):
        if "*" in value:
            rest = f"${{{name}:+:${name}}}"
            yield f'export {name}="$({_LIBRARIES}){rest}"'
        else:
            yield f'export {name}="$({_PLATLIB}){value.removeprefix(SITE)}"'


def lacking(variables: Mapping[str, str], environ: Mapping[str, str], site: Path) -> list[str]:
    """Those of the variables that are not set so that they name the folders below `site`."""
    return [
        name
        for name, value in sorted(variables.items())
        if not _names(environ.get(name, ""), value.replace(SITE, os.fspath(site)))
    ]


def _names(there: str, value: str) -> bool:
    """Whether a variable is set: a path of libraries to at least one of those meant."""
    if "*" not in value:
        return bool(there)
    start = value.partition("*")[0]
    return any(part.startswith(start) for part in there.split(":"))
