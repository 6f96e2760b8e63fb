"""Folders that are full, read-only, without inodes, or gone; from the start or in the middle."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from faults.kinds.registry import MOUNTS, Placing, add
from faults.trial import Trial, fill, make_readonly, unfill, use_inodes, wait
from faults.workshop import INSTALLS, RUNS, Launch, Workshop

Place = Callable[[Workshop], Path]

FOLDERS: dict[str, tuple[Place, tuple[str, ...]]] = {
    "temporary": (lambda shop: shop.temporary, (*RUNS, *INSTALLS, "lock", "report", "refresh")),
    "home": (lambda shop: shop.toy.home, (*RUNS, *INSTALLS, "matrix", "lock")),
    "logs": (lambda shop: shop.toy.home / "logs", RUNS),
    "environments": (lambda shop: shop.toy.home / "envs", (*RUNS, *INSTALLS)),
    "downloads": (lambda shop: shop.toy.home / "downloads", INSTALLS),
    "results": (lambda shop: shop.results, (*RUNS, "matrix", "report", "collect")),
    "reports": (lambda shop: shop.toy.folder / "reports", (*RUNS, "report", "collect")),
    "constraints": (
        lambda shop: shop.toy.folder / "constraints",
        ("run unlocked", "lock", "refresh", "run"),
    ),
    "output": (lambda shop: shop.out, ("bundle",)),
}
"""By name: where it is, and which commands write to it."""


def _full(trial: Trial, place: Place) -> Iterator[Launch]:
    folder = place(trial.shop)
    trial.small(folder)
    fill(folder, trial.random.choice((0, 0, 4096, 16384, 65536)))
    yield Launch()
    unfill(folder)


def _fills(trial: Trial, place: Place) -> Iterator[Launch]:
    folder = place(trial.shop)
    trial.small(folder, spare=4 << 20)

    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = wait(process, trial.moment())
        fill(folder)

    trial.during = during
    yield Launch()
    unfill(folder)


def _no_inodes(trial: Trial, place: Place) -> Iterator[Launch]:
    folder = place(trial.shop)
    trial.small(folder, spare=4 << 20, inodes=40)
    use_inodes(folder)
    yield Launch()
    unfill(folder)


def _readonly(trial: Trial, place: Place) -> Iterator[Launch]:
    with trial.readonly(place(trial.shop)):
        yield Launch()


def _becomes_readonly(trial: Trial, place: Place) -> Iterator[Launch]:
    folder = place(trial.shop)
    folder.mkdir(parents=True, exist_ok=True)

    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = wait(process, trial.moment())
        make_readonly(folder)

    trial.during = during
    yield Launch()
    subprocess.run(["umount", "-l", folder], check=True)


def _not_there(trial: Trial) -> Iterator[Launch]:
    yield Launch(variables={"TMPDIR": str(trial.shop.folder / "no" / "such" / "folder")})


def _is_a_file(trial: Trial, place: Place) -> Iterator[Launch]:
    with trial.instead(place(trial.shop), lambda path: path.write_text("a file\n")):
        yield Launch()


def _vanishes(trial: Trial, place: Place) -> Iterator[Launch]:
    """It is moved away in the middle, and is back after the end."""
    folder = place(trial.shop)
    aside = folder.with_name(f"{folder.name}-away")

    def during(process: subprocess.Popen[bytes]) -> None:
        trial.placed = wait(process, trial.moment())
        folder.rename(aside)
        wait(process, 40.0)
        if folder.exists():
            subprocess.run(["cp", "-a", f"{folder}/.", aside], check=True)
            subprocess.run(["rm", "-rf", folder], check=True)
        aside.rename(folder)

    trial.during = during
    yield Launch()


def _shared_memory(trial: Trial, *, how: str) -> Iterator[Launch]:
    options = "size=4k" if how == "full" else "ro,size=4k"
    mount = f"mount -t tmpfs -o {options} tmpfs /dev/shm"
    script = f'{mount} && cat /dev/zero 2>&- >/dev/shm/full; exec "$@"'
    yield Launch(prefix=("unshare", "--mount", "sh", "-c", script, "sh"))


def _with(placing: Callable[[Trial, Place], Iterator[Launch]], place: Place) -> Placing:
    return partial(placing, place=place)  # type: ignore[call-arg]


for _name, (_place, _commands) in FOLDERS.items():
    for _word, _what, _placing in (
        ("full", "is full or nearly full", _full),
        ("fills-up", "fills up in the middle", _fills),
        ("read-only", "cannot be written to", _readonly),
    ):
        add(
            f"folder-{_name}-{_word}",
            f"the folder {_name} {_what}",
            _commands,
            _with(_placing, _place),
            needs=(MOUNTS,),
        )
for _name in ("temporary", "home", "results"):
    add(
        f"folder-{_name}-no-inodes",
        f"the folder {_name} has no free inodes",
        FOLDERS[_name][1],
        _with(_no_inodes, FOLDERS[_name][0]),
        needs=(MOUNTS,),
    )
    add(
        f"folder-{_name}-becomes-read-only",
        f"the folder {_name} becomes read-only in the middle",
        FOLDERS[_name][1],
        _with(_becomes_readonly, FOLDERS[_name][0]),
        stuck=True,
        needs=(MOUNTS,),
    )
for _name in ("temporary", "logs", "environments", "results"):
    add(
        f"folder-{_name}-vanishes",
        f"the folder {_name} is moved away in the middle",
        FOLDERS[_name][1],
        _with(_vanishes, FOLDERS[_name][0]),
        stuck=True,
    )
for _name in ("home", "logs", "environments", "results", "reports"):
    add(
        f"folder-{_name}-is-a-file",
        f"a file stands where the folder {_name} must be",
        FOLDERS[_name][1],
        _with(_is_a_file, FOLDERS[_name][0]),
        codes=(2,),
    )
add("folder-temporary-not-there", "TMPDIR names no folder", RUNS, _not_there, codes=(2,))
for _how in ("full", "read-only"):
    add(
        f"shared-memory-{_how}",
        f"/dev/shm is {_how}",
        RUNS,
        partial(_shared_memory, how=_how),
        needs=(MOUNTS,),
    )
