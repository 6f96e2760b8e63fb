"""Environments, caches and wheels that are damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from faults.kinds.registry import Placing, add
from faults.trial import Trial
from faults.workshop import GOOD, Launch

RUN, AGAIN = ("run",), ("run again",)


def _environment(trial: Trial) -> Path:
    return trial.shop.toy.home / "envs" / f"compat-{GOOD}"


def _site(trial: Trial) -> Path:
    return next(_environment(trial).glob("lib/python*/site-packages"))


def _some(trial: Trial, files: list[Path]) -> Path:
    return trial.random.choice(sorted(files))


def _code(trial: Trial) -> list[Path]:
    return [p for p in _site(trial).rglob("*.py") if not p.name.startswith("_virtualenv")]


def _delete(trial: Trial, files: Callable[[Trial], list[Path]]) -> None:
    path = _some(trial, files(trial))
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _cut(trial: Trial, files: Callable[[Trial], list[Path]]) -> None:
    path = _some(trial, files(trial))
    content = path.read_bytes()
    path.unlink()  # it may be a link to what a cache has, too
    path.write_bytes(content[: len(content) // 2])


def _nonsense(trial: Trial, files: Callable[[Trial], list[Path]]) -> None:
    path = _some(trial, files(trial))
    path.unlink()
    path.write_bytes(bytes(range(256)))


def _python(trial: Trial) -> list[Path]:
    return [_environment(trial) / "bin" / "python"]


def _home(*patterns: str) -> Callable[[Trial], list[Path]]:
    def found(trial: Trial) -> list[Path]:
        home = trial.shop.toy.home
        there = [path for pattern in patterns for path in home.glob(pattern)]
        return [path for path in there if not path.is_dir()]

    return found


def _infos(trial: Trial) -> list[Path]:
    return [path for path in _site(trial).glob("*.dist-info") if path.is_dir()]


def _metadata(trial: Trial) -> list[Path]:
    return list(_site(trial).glob("*.dist-info/METADATA"))


def _place(do: Callable[..., None], files: Callable[[Trial], list[Path]]) -> Placing:
    def placing(trial: Trial) -> Iterator[Launch]:
        """It stays: the next run must mend it, or this one."""
        do(trial, files)
        yield Launch()

    return placing


def _half_made(trial: Trial) -> Iterator[Launch]:
    """As of a run that was killed while it made the environment."""
    marker = _environment(trial).with_name(f"compat-{GOOD}.json")
    marker.unlink(missing_ok=True)
    for path in sorted(_site(trial).iterdir())[::2]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield Launch()


def _locked_file(trial: Trial, *, name: str) -> Iterator[Launch]:
    """A folder stands where a file for a lock of processes must be."""
    with trial.instead(trial.shop.toy.home / name, Path.mkdir):
        yield Launch()


for _name, _what, _do, _files, _commands in (
    ("file-deleted", "a file of an installed package is deleted", _delete, _code, RUN),
    ("file-cut", "a file of an installed package is cut", _cut, _code, RUN),
    (
        "file-nonsense",
        "a file of an installed package is overwritten with nonsense",
        _nonsense,
        _code,
        RUN,
    ),
    ("no-metadata", "an installed package has no METADATA", _delete, _metadata, RUN),
    ("no-dist-info", "an installed package has no dist-info", _delete, _infos, RUN),
    ("no-python", "the environment has no Python", _delete, _python, RUN),
    ("python-nonsense", "the environment's Python cannot be run", _nonsense, _python, RUN),
    ("no-pyvenv", "pyvenv.cfg is missing", _delete, _home(f"envs/compat-{GOOD}/pyvenv.cfg"), RUN),
    (
        "marker-cut",
        "the environment's own file is cut",
        _cut,
        _home(f"envs/compat-{GOOD}.json"),
        RUN,
    ),
    (
        "tools-deleted",
        "a file of the suite's tools is missing",
        _delete,
        _home("tools/*/*.dist-info/*", "tools/*/.lock"),
        RUN,
    ),
    (
        "bytecode-nonsense",
        "bytecode is overwritten with nonsense",
        _nonsense,
        _home("bytecode/*.pyc"),
        RUN,
    ),
    ("bytecode-names", "the list of bytecode is cut", _cut, _home("bytecode/names.txt"), RUN),
    ("uv-cache-cut", "a file of uv's cache is cut", _cut, _home("uv/**/*"), AGAIN),
    ("download-cut", "a wheel in the cache is cut", _cut, _home("downloads/*/*.whl"), ("bundle",)),
    ("log-nonsense", "an old log is overwritten with nonsense", _nonsense, _home("logs/*/*"), RUN),
):
    add(f"environment-{_name}", _what, _commands, _place(_do, _files), share=0.8)
add("environment-half-made", "the environment is half made", RUN, _half_made, share=0.8)
OF_CELL = f"envs/compat-{GOOD}"
for _word, _name in (
    ("results-lock", "results.lock"),
    ("verdicts-lock", "verdicts.lock"),
    ("cell-lock", f"{OF_CELL}.lock"),
    ("cell-run", f"{OF_CELL}.run"),
):
    add(
        f"environment-{_word}-a-folder",
        f"a folder stands where {Path(_name).name} must be",
        RUN,
        partial(_locked_file, name=_name),
        codes=(2,),
        share=0.3,
    )
