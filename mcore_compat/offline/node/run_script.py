"""Verifies this bundle, then runs the suite in its cells. Needs no network.

Standard library only, Python 3.10 or newer. If it is beside the parts of a bundle, it unpacks
them first. It verifies all files of a bundle before it runs or installs any of them.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # nothing in this folder is imported before it is verified
    _HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _HERE]

import argparse
import fcntl
import hashlib
import shutil
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

SUMS = "SHA256SUMS"
SUMS_DIGEST = "SHA256SUMS.sha256"
TOP = "mcore-compat-bundle"
"""The top folder of an archive."""

PARTS = ".tar.sha256"
"""The suffix of the list of a bundle's parts."""

UNPACKED = ".parts"
"""The file in an unpacked bundle with the digest of its list of parts."""

RESULTS, SUMMARY = "results.tar", "summary.txt"
"""The output of cells that ran in parallel: all results and logs, and how each ended."""

DETACHED, DONE, LOG = "run.lock", "run.code", "run.log"
"""The files of a detached run: it holds the lock on the first, writes its exit code to the second
and its output to the third."""

OURS = ("results", "logs", "work")
"""Folders that runs leave in a bundle's folder, beside the files above."""

RUNNING = 75

EXIT_CODES = f"""\
exit codes: 0 every suite ended, with any outcome; 2 bad input, or the bundle was changed; 3 disk
or another infrastructure error; 130 interrupted; --wait: the exit code of the run, or {RUNNING}
while it runs"""


class RefusedError(Exception):
    """The bundle was changed; the message names the file."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="run.py", description=__doc__, epilog=EXIT_CODES, allow_abbrev=False
    )
    top.add_argument("--cell", action="append", metavar="CELL", help="run this cell; repeatable")
    top.add_argument("--all", action="store_true", help="run every cell (the default)")
    top.add_argument("--main", action="store_true", help="run the main suite, beside other parts")
    top.add_argument("--ranks", action="store_true", help="run only the checks over two ranks")
    top.add_argument(
        "--gpu", action="store_true", help="run only the GPU tier; by default, a GPU runs both"
    )
    top.add_argument("--only", metavar="CHECK", help="run some checks, globs: incomplete result")
    top.add_argument("-j", type=int, default=1, metavar="N", help="run N cells in parallel (1)")
    top.add_argument(
        "--results",
        metavar="FOLDER",
        help=f"write {RESULTS} there, all results and logs, updated while the cells run",
    )
    top.add_argument("--detach", action="store_true", help="return at once; follow with --wait")
    top.add_argument("--wait", type=float, metavar="SECONDS", help="follow a detached run")
    top.add_argument("--base", choices=("current",), help="use the torch and TE of this Python")
    top.add_argument("--keep", action="store_true", help="keep the environment for the next run")
    top.add_argument(
        "--limit", type=float, help="time limit of a check in seconds (120, or its own limit)"
    )
    top.add_argument(
        "--suite-limit", type=float, default=1800.0, help="for a suite, seconds (1800)"
    )
    top.add_argument("--python", metavar="PATH", help="the Python for environments")
    top.add_argument("--installer", choices=("uv", "pip"), help="default: uv if it is on PATH")
    top.add_argument("--into", metavar="FOLDER", help="for results, logs and environments (here)")
    top.add_argument("--manifest", metavar="SHA256", help="refuse a bundle with another digest")
    return top


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sums(path: Path) -> dict[str, str]:
    """Digest by name, from a file in the form of `sha256sum`.

    Raises:
        RefusedError: it is missing or has another format.
    """
    try:
        rows = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in rows}
    except (OSError, ValueError):
        raise RefusedError(f"{path.name} is missing or damaged; copy the bundle again") from None


def verify(root: Path, digest: str | None = None) -> str:
    """Verify that the files below `root` are exactly those of the manifest; returns its digest.
    `digest`: the required one.

    Raises:
        RefusedError: a file is missing, changed, or does not belong to the bundle.
    """
    listed = sums(root / SUMS)
    manifest = sha256(root / SUMS)
    if sums(root / SUMS_DIGEST).get(SUMS) != manifest:
        raise RefusedError(f"{SUMS} was changed; copy the bundle again")
    if digest is not None and digest != manifest:
        raise RefusedError(f"this is another bundle: its {SUMS} has the digest {manifest}")
    for path in sorted(_files(root)):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or name not in listed:
            raise RefusedError(f"{name} does not belong to this bundle; remove it")
    for name, wanted in sorted(listed.items()):
        path = root / name
        if not path.is_file():
            raise RefusedError(f"{name} is missing; copy the bundle again")
        if sha256(path) != wanted:
            raise RefusedError(
                f"{name} was changed: its SHA-256 is not the manifest's; copy the bundle again"
            )
    return manifest


def _files(root: Path) -> Iterator[Path]:
    """The files of a bundle, without its manifest and files left by runs."""
    for base, folders, names in os.walk(root):
        here = Path(base)
        if "__pycache__" in folders:  # Python would use these compiled files
            _remove(here / "__pycache__")
            folders.remove("__pycache__")
        if here == root:
            folders[:] = [n for n in folders if n not in OURS and not _has_results(root / n)]
            names = [name for name in names if not _is_left_by_runs(name)]
        folders.sort()
        yield from (here / name for name in folders if (here / name).is_symlink())
        yield from (here / name for name in names)


def _remove(folder: Path) -> None:
    """Remove a folder, even if another run is writing into it."""
    for _ in range(9):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    raise RefusedError(f"{folder} does not belong to this bundle and cannot be removed")


def _is_left_by_runs(name: str) -> bool:
    """Whether a top-level file is allowed: the manifest, files of runs (also temporary ones of
    killed runs), and files of schedulers."""
    own = name in (SUMS, SUMS_DIGEST, UNPACKED, DETACHED) or _is_of(name, RESULTS, SUMMARY, DONE)
    return own or name.endswith((".out", ".err", ".log"))


def _is_of(name: str, *written: str) -> bool:
    """Whether `write_whole` made a file of this name for one of `written`."""
    return any(name == target or name.startswith(f".{target}.") for target in written)


def _has_results(folder: Path) -> bool:
    """Whether a folder has only files of `--results`."""
    return not folder.is_symlink() and all(
        path.is_file() and not path.is_symlink() and _is_of(path.name, RESULTS, SUMMARY)
        for path in folder.iterdir()
    )


def lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Lock an open file; False if another process, here or on another machine, has the lock.

    Raises:
        OSError: this file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


class JoinedParts:
    """Reads the parts as one file."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._chunks = self._read(parts)
        self._left = b""

    @staticmethod
    def _read(parts: Sequence[Path]) -> Iterator[bytes]:
        for part in parts:
            with part.open("rb") as source:
                while chunk := source.read(1 << 20):
                    yield chunk

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._left) < size and (chunk := next(self._chunks, b"")):
            self._left += chunk
        data, self._left = self._left[:size], self._left[size:]
        return data


def unpack(folder: Path) -> Path:
    """Unpack the parts in `folder` beside them, unless that was done; returns the new folder.

    Raises:
        RefusedError: there is no bundle, or a part is missing or damaged.
    """
    lists = sorted(folder.glob(f"*{PARTS}"))
    if len(lists) != 1:
        many = ", ".join(path.name for path in lists)
        raise RefusedError(
            f"several bundles in {folder} ({many}); put each into a separate folder"
            if lists
            else f"no bundle in {folder}: neither {SUMS} nor a list of parts, *{PARTS}"
        )
    into = folder / TOP
    digest = sha256(lists[0])
    if not _is_unpacked(into, digest):
        with (folder / f"{TOP}.lock").open("a") as file:
            _wait_for(file)
            if not _is_unpacked(into, digest):  # another run may have unpacked it meanwhile
                _unpack(lists[0], into)
    return into


def _is_unpacked(into: Path, digest: str) -> bool:
    return (into / UNPACKED).is_file() and (into / UNPACKED).read_text() == digest


def _wait_for(file: IO[Any]) -> None:
    """Wait for a lock and take it.

    Raises:
        RefusedError: this file system has no locks.
    """
    try:
        if not lock(file):
            print("waiting for another run that unpacks the bundle", file=sys.stderr, flush=True)
            lock(file, wait=True)
    except OSError as error:
        raise RefusedError(
            f"cannot lock a file in {Path(file.name).parent} ({error.strerror}); copy the bundle "
            "to another file system"
        ) from None


def _unpack(parts_list: Path, into: Path) -> None:
    """Verify the listed parts and unpack them; raises as `unpack`."""
    folder, listed = parts_list.parent, sums(parts_list)
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing:
        raise RefusedError(f"missing {', '.join(missing)} of {len(listed)} files; copy it, too")
    print(f"verifying {len(listed)} files of {parts_list.name}", file=sys.stderr, flush=True)
    for name, wanted in listed.items():
        if sha256(folder / name) != wanted:
            raise RefusedError(f"{name} was changed: its SHA-256 is not that of {parts_list.name}")
    numbers = {int(end): name for name in listed if (end := name.rpartition(".")[2]).isdigit()}
    parts = [folder / numbers[number] for number in sorted(numbers)]
    fresh = folder / f"{TOP}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    print(f"unpacking {len(parts)} parts", file=sys.stderr, flush=True)
    try:
        _extract(JoinedParts(parts), fresh)
        for name in ("run.py", SUMS, SUMS_DIGEST):  # tarfile treats an invalid header as the end
            if not (fresh / TOP / name).is_file():
                raise RefusedError(f"the archive is truncated: it lacks {name}; make it again")
        (fresh / TOP / UNPACKED).write_text(sha256(parts_list))
        shutil.rmtree(into, ignore_errors=True)
        os.replace(fresh / TOP, into)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _extract(source: JoinedParts, into: Path) -> None:
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts:
                    raise RefusedError(f"{member.name} is not a regular file of a bundle")
                path = into / name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                with path.open("xb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
    except tarfile.TarError as error:
        raise RefusedError(f"the archive is damaged ({error}); copy it again") from None


def main(argv: Sequence[str]) -> int:
    """Verify the bundle, then run its modules; returns the exit code."""
    args = parser().parse_args(argv)
    sys.dont_write_bytecode = True
    root = Path(__file__).resolve().parent
    into = Path(args.into or root).resolve()
    try:
        if args.all and args.cell:
            raise RefusedError("--all and --cell exclude each other")
        if args.wait is not None:
            return wait(into, args.wait, args.results)
        if not (root / SUMS).exists():
            script = unpack(root) / "run.py"
            # Output goes beside the parts.
            words = [*argv, *(() if args.into else ("--into", str(root)))]
            os.execv(sys.executable, [sys.executable, str(script), *words])
        print("verifying the bundle", file=sys.stderr, flush=True)
        digest = verify(root, args.manifest)
        cells = sorted(path.stem for path in (root / "cells").glob("*.json"))
        for name in args.cell or ():
            if name not in cells:
                raise RefusedError(f'this bundle has no cell "{name}"; it has {", ".join(cells)}')
    except RefusedError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"run.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    args.cell = list(dict.fromkeys(args.cell or cells))
    # `packaging` from its wheel, because this Python may not have it.
    sys.path[:0] = [str(root), str(sorted(root.glob("wheels/packaging-*-none-any.whl"))[-1])]
    from mcore_compat.offline.node import cell_run, detached
    from mcore_compat.offline.node.environment import NodeRun

    run = NodeRun(root=root, digest=digest, into=into, args=args)
    if args.detach:
        return detached.detach(into, lambda: cell_run.main(run))
    return cell_run.main(run)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(data)
    os.replace(part, path)


def wait(into: Path, seconds: float, results: str | None) -> int:
    """Follow a detached run for at most `seconds` and copy its results; returns its exit code, or
    `RUNNING`.

    Raises:
        RefusedError: there is no detached run.
    """
    if not (into / DETACHED).exists():
        raise RefusedError(f"there is no detached run in {into}")
    deadline = time.monotonic() + seconds
    log, shown = into / LOG, 0
    while True:
        with (into / DETACHED).open("a") as file:
            over = lock(file)
        text = log.read_bytes() if log.exists() else b""
        sys.stdout.write(text[shown:].decode("utf-8", "replace"))
        sys.stdout.flush()
        shown = len(text)
        if over or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    for name in (RESULTS, SUMMARY) if results else ():
        if (into / name).exists():
            write_whole(Path(str(results)) / name, (into / name).read_bytes())
    if not over:
        return RUNNING
    try:
        return int((into / DONE).read_text())
    except (OSError, ValueError):
        print("run.py: the run was killed; its results so far are kept", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
