"""What a command is started with: its output, its folder, its variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial

from faults.kinds.registry import add
from faults.trial import Trial
from faults.workshop import READS, RUNS, Launch

ANY = (*RUNS, "report", "matrix", "lock", "refresh", *READS)


def _full(trial: Trial) -> Iterator[Launch]:
    yield Launch(out="/dev/full")


def _no_reader(trial: Trial) -> Iterator[Launch]:
    read, write = os.pipe()
    os.close(read)
    yield Launch(out=write)
    os.close(write)


def _closed(trial: Trial, *, numbers: tuple[int, ...]) -> Iterator[Launch]:
    yield Launch(closed=numbers)


def _no_folder(trial: Trial) -> Iterator[Launch]:
    """The working directory is deleted; where the workspace is, a variable says."""
    script = 'mkdir "$1" && cd "$1" && rmdir "$1" && shift && exec "$@"'
    gone = str(trial.shop.folder / "gone")
    variables = {"MCORE_COMPAT_WORKSPACE": str(trial.shop.toy.folder)}
    yield Launch(prefix=("sh", "-c", script, "sh", gone), variables=variables)


def _umask(trial: Trial) -> Iterator[Launch]:
    mask = trial.random.choice(("0777", "0077", "0000"))
    yield Launch(prefix=("sh", "-c", f'umask {mask}; exec "$@"', "sh"))


def _variables(trial: Trial, *, sets: tuple[Mapping[str, str | None], ...]) -> Iterator[Launch]:
    yield Launch(variables=trial.random.choice(sets))


for _name, _what, _placing in (
    ("full", "standard output is full", _full),
    ("no-reader", "no process reads standard output", _no_reader),
    ("closed-out", "standard output is closed", partial(_closed, numbers=(1,))),
    ("closed-err", "standard error is closed", partial(_closed, numbers=(2,))),
    ("closed-all", "all three streams are closed", partial(_closed, numbers=(0, 1, 2))),
):
    add(f"output-{_name}", _what, ANY, _placing, codes=(-13, 141))
add("folder-working-deleted", "the working directory was removed", ANY, _no_folder, codes=(2,))
add("variable-umask", "an odd umask", RUNS, _umask, share=0.5)

SETS: dict[str, tuple[str, tuple[Mapping[str, str | None], ...]]] = {
    "locale": (
        "an odd locale or encoding",
        (
            {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
            {"LC_ALL": "xx_YY.nonsense", "LANG": "\x1b"},
            {"PYTHONUTF8": "0", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
            {"PYTHONIOENCODING": "latin-1"},
        ),
    ),
    "terminal": (
        "an odd terminal",
        (
            {"COLUMNS": "0", "LINES": "-1"},
            {"COLUMNS": "abc", "TERM": "nonsense"},
            {"COLUMNS": "1", "FORCE_COLOR": "1"},
            {"COLUMNS": str(10**30)},
        ),
    ),
    "uv": (
        "the user's own variables of uv and pip",
        (
            {"UV_PYTHON": "3.99", "UV_SYSTEM_PYTHON": "1"},
            {"UV_OFFLINE": "nonsense", "UV_CONCURRENT_DOWNLOADS": "-1"},
            {"PIP_TARGET": "/nonexistent", "PIP_NO_INDEX": "1"},
            {"UV_CONFIG_FILE": "/nonexistent", "UV_NO_CACHE": "1"},
            {"VIRTUAL_ENV": "/nonexistent", "CONDA_PREFIX": "/nonexistent"},
        ),
    ),
    "path": ("PATH has nothing", ({"PATH": ""}, {"PATH": "/nonexistent"}, {"PATH": None})),
    "home": (
        "HOME is odd",
        ({"HOME": None}, {"HOME": "/dev/null"}, {"HOME": ""}, {"HOME": "/nonexistent"}),
    ),
    "loader": (
        "the loader's variables name missing files",
        ({"LD_PRELOAD": "/nonexistent.so"}, {"LD_LIBRARY_PATH": ":/dev/null:\x01"}),
    ),
    "python": (
        "variables of Python that affect other processes",
        (
            {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": "/dev/null"},
            {"PYTHONWARNINGS": "error"},
            {"PYTHONOPTIMIZE": "2"},
            {"PYTHONDEVMODE": "1"},
            {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "debug"},
        ),
    ),
    "surrogate": ("a variable is not UTF-8", ({"ODD": "\udcff"}, {"TZ": "Nowhere/\udcff"})),
    "proxy": (
        "a proxy that does not exist",
        ({"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "nonsense://"},),
    ),
    "threads": (
        "invalid numbers of threads",
        ({"OMP_NUM_THREADS": "abc", "MKL_NUM_THREADS": "-1"},),
    ),
}
for _name, (_what, _sets) in SETS.items():
    _commands = (
        ("refresh", "run bare") if _name == "proxy" else (*RUNS, "run bare", "report", "show")
    )
    add(
        f"variable-{_name}",
        _what,
        _commands,
        partial(_variables, sets=_sets),
        codes=(2,),
        share=0.8,
    )
