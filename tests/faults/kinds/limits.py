"""Limits that a shell, a scheduler or a container sets, at several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import INSTALLS, RUNS, Launch

MANY = (*RUNS, *INSTALLS, "report", "lock", "matrix", "show")

MIB = 1 << 20

LIMITS: dict[str, tuple[str, Sequence[int]]] = {
    "as": ("address space", [MIB * n for n in (120, 200, 400, 800, 1600, 3000, 4500)]),
    "data": ("data", [MIB * n for n in (20, 60, 120, 300, 1000)]),
    "nofile": ("open files", (10, 16, 24, 40, 64, 128)),
    "fsize": ("size of a file", (0, 100, 1000, 4096, 20_000, 100_000)),
    "cpu": ("seconds of a CPU", (1, 2)),
    "stack": ("stack", [1024 * n for n in (128, 256, 512, 1024)]),
    "core": ("size of a core file", (0, 1 << 40)),
    "nproc": ("processes of the user", (1, 8, 32)),
    "memlock": ("locked memory", (0,)),
    "sigpending": ("waiting signals", (0, 1)),
}


def _limit(trial: Trial, *, name: str, sizes: Sequence[int]) -> Iterator[Launch]:
    size = trial.random.choice(sizes)
    # Its output must not be files: they would be too large as well.
    piped = ("bash", "-c", 'set -o pipefail; "$@" 2> >(cat >&2) | cat', "bash")
    before = piped if name == "fsize" else ()
    yield Launch(prefix=(*before, "prlimit", f"--{name}={size}"))


def _nice(trial: Trial) -> Iterator[Launch]:
    yield Launch(prefix=("nice", "-n", "19"), limit=80.0)


for _name, (_what, _sizes) in LIMITS.items():
    _killed = _name in ("cpu", "as", "data", "stack")
    add(
        f"limit-{_name}",
        f"a limit of the {_what}",
        MANY,
        partial(_limit, name=_name, sizes=_sizes),
        # The kernel's own signals for what is too much: XCPU, KILL, SEGV, ABRT.
        codes=(-24, -9, 137, 152) if _name == "cpu" else (-11, -6) if _killed else (),
        killed=_killed,
    )
add("limit-nice", "the lowest priority", RUNS, _nice, share=0.3)
