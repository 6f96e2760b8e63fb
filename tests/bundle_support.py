"""A bundle of stand-ins: tiny wheels, a suite of two checks. Only the plumbing is real."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from support import stand_in_cell

from mcore_compat.base import files
from mcore_compat.core.cells import Cell
from mcore_compat.core.workspace import Workspace
from mcore_compat.environments.wheelhouse import Key, Wheel
from mcore_compat.offline import archive, contents
from mcore_compat.offline.archive import BundleFile
from mcore_compat.resolve import locks
from mcore_compat.resolve.locks import Lock
from mcore_compat.run import context

SERIES = ".".join(map(str, sys.version_info[:2]))
CELL = replace(stand_in_cell(), python=SERIES)

TAG = f"cp{SERIES.replace('.', '')}-cp{SERIES.replace('.', '')}-linux_x86_64"

SUITE = '''"""Stands in for the suite: says what is installed, and asks two checks that import."""
import argparse, importlib, importlib.metadata, json, os, pathlib, re, signal, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--events", type=pathlib.Path)
parser.add_argument("--tools")
parser.add_argument("--timeout", type=float)
parser.add_argument("--only", default="")
parser.add_argument("--checks", type=pathlib.Path)
options = parser.parse_args()
installed = {}
for one in importlib.metadata.distributions():
    installed.setdefault(re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(), one.version)
sys.path.append(options.tools)
import a_tool
out = options.events.open("a")

def say(**event):
    out.write(json.dumps(event) + "\\n")
    out.flush()
    print(event["event"], event.get("check", ""), flush=True)

python = ".".join(map(str, sys.version_info[:3]))
device = os.environ.get("STAND_IN_DEVICE", "host")
platform = {"python": python, "cuda": "12.8"}
if device == "gpu":
    platform.update(gpu="a stand-in", capability="9.0", driver="1.0")
first = options.checks.name if options.checks else "import"
asked = {f"{first}-{name}": name for name in ("megatron_core", "torch")}
asked = {check: name for check, name in asked.items() if options.only in ("", check)}
say(event="start", suite=1, device_class=device, platform=platform,
    installed=installed, checks=list(asked), sabotage=os.environ.get("STAND_IN_SABOTAGE"))
if os.environ.get("STAND_IN_TELLS"):  # what it was given to find things by
    pathlib.Path(os.environ["STAND_IN_TELLS"]).write_text(json.dumps(dict(os.environ)))
for check, name in asked.items():
    if os.environ.get("STAND_IN_PRINTS"):
        print("." * int(os.environ["STAND_IN_PRINTS"]), flush=True)
    hangs = os.environ.get("STAND_IN_HANGS")
    if hangs and os.environ.get("STAND_IN_HANGS_AT", check) == check:
        place = pathlib.Path(hangs)
        (place / str(os.getpid()) if place.is_dir() else place).write_text(str(os.getpid()))
        time.sleep(600)
    found = importlib.import_module(name)
    say(event="check", check=check, kind=check, family=None, outcome="works", seconds=0.1,
        reason=None, failure=None, details={"file": found.__file__, "version": found.VERSION},
        warnings=[])
if not os.environ.get("STAND_IN_ENDS_EARLY"):
    say(event="end", seconds=0.2)
'''


def wheel(
    folder: Path, name: str, version: str, requires: Iterable[str] = (), tag: str = "py3-none-any"
) -> Path:
    """A tiny wheel: one module that knows its version."""
    plain = name.replace("-", "_")
    extra = {"torch": {"torch/version.py": "cuda: str = '12.8'\n"}}.get(name, {})
    info = f"{plain}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
    inside = {
        f"{plain}/__init__.py": f"VERSION = {version!r}\n",
        **extra,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    return packed(folder / f"{plain}-{version}-{tag}.whl", inside, info)


def packed(path: Path, inside: Mapping[str, str], info: str) -> Path:
    """A wheel of these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as out:
        rows = []
        for name, text in inside.items():
            data = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            out.writestr(zipfile.ZipInfo(name), data)
            rows.append(f"{name},sha256={digest},{len(data)}\n")
        out.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join([*rows, f"{info}/RECORD,,\n"]))
    return path


@functools.cache
def packaging_wheel(folder: Path) -> Path:
    """The real `packaging` of this environment, as a wheel: a bundle's own modules use it."""
    there = importlib.metadata.distribution("packaging")
    info = f"packaging-{there.version}.dist-info"
    inside = {
        str(file): file.read_text(encoding="utf-8")
        for file in there.files or ()
        if file.suffix == ".py" or file.name in ("METADATA", "WHEEL")
    }
    return packed(folder / f"packaging-{there.version}-py3-none-any.whl", inside, info)


def pinned(paths: Iterable[Path]) -> str:
    """Requirements with hashes, as locks have them."""
    rows = []
    for path in sorted(paths):
        name, version = path.name.split("-")[:2]
        digest = files.sha256_file(path)
        rows.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n")
    return "".join(rows)


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A workspace of stand-ins, and one cell of it."""

    workspace: Workspace
    lock: Lock
    local: tuple[Wheel, ...]
    downloads: Mapping[str, Path]
    tools: Mapping[str, Path]

    def packed(self, without: Sequence[str] = (), cell: Cell = CELL) -> contents.PackedCell:
        """The cell, as the command packs it."""
        torch = frozenset({"torch", "triton", "nvidia-cublas-cu12"})
        left_out = contents.left_out(self.lock, without, torch)
        mine = {pin.name for pin in self.lock.pins} - left_out
        hashes = {h for pin in self.lock.pins if pin.name in mine for h in pin.hashes}
        return contents.PackedCell(
            cell=cell,
            lock=replace(self.lock, cell=cell.name),
            wheels=tuple(w for w in self.local if w.key.package not in left_out),
            downloads={h: p for h, p in self.downloads.items() if h in hashes},
            torch=torch,
            without=tuple(without),
            left_out=left_out,
        )

    def bundle_files(self, without: Sequence[str] = ()) -> list[BundleFile]:
        """All of a bundle of the cell."""
        return contents.bundle_files([self.packed(without)], self.tools, self.workspace)

    def laid_out(self, folder: Path, without: Sequence[str] = ()) -> Path:
        """The bundle, unpacked."""
        archive.lay_out(self.bundle_files(without), folder)
        return folder


def stand_in(root: Path, core: bytes = b"") -> StandIn:
    """Make all of it below `root`; `core`: what TE's core has beside its module."""
    wheels = root / "made"
    mine = [
        wheel(wheels, "torch", CELL.torch, ["triton==3.5.1", "filelock"]),
        wheel(wheels, "triton", "3.5.1"),
        wheel(wheels, "nvidia-cublas-cu12", "12.8.4.1"),
        wheel(wheels, "nvidia-ml-py", "13.5"),
        wheel(wheels, "filelock", "3.25.2"),
        wheel(wheels, "numpy", "2.4.4"),
        wheel(wheels, "megatron-core", CELL.mcore, ["torch>=2.9", "numpy<3"]),
        wheel(wheels, "nvidia-modelopt", CELL.modelopt, ["numpy>=2", "nvidia-ml-py>=12"]),
        wheel(wheels, "transformer-engine", CELL.te),
        wheel(wheels, "transformer-engine-cu12", CELL.te),
    ]
    if core:
        with zipfile.ZipFile(mine[-1], "a", zipfile.ZIP_DEFLATED) as out:
            out.writestr("transformer_engine_cu12/core.bin", core)
    local = (
        built(root / "wheelhouse", "transformer-engine-torch", CELL.te),
        built(root / "wheelhouse", "mamba-ssm", "2.2.5"),
    )
    tool = wheel(wheels, "a-tool", "1.0")
    put(root / "suite" / "run.py", SUITE)
    put(root / "suite" / "check_it.py", "# a check\n")
    put(root / "suite" / "gpu" / "check_more.py", "# a check of a part\n")
    put(root / "suite" / "ranks" / "check_more.py", "")
    tools = [tool, packaging_wheel(wheels)]
    put(root / "constraints" / "suite-tools.txt", pinned([tool]))
    put(root / "constraints" / "bundle-tools.txt", pinned([packaging_wheel(wheels)]))
    source_only = {one.key.package: one.key.version for one in local}
    body = pinned(mine) + "".join(
        f"{name}=={version} \\\n    --hash=sha256:{'ab' * 32}\n"
        for name, version in source_only.items()
    )
    head = locks.head(CELL, "2026-01-01", list(source_only), told=("none", "kept to"), body=body)
    return StandIn(
        workspace=Workspace(root),
        lock=locks.parse(head + body, f"{CELL.name}.txt"),
        local=local,
        downloads={files.sha256_file(path): path for path in mine},
        tools={files.sha256_file(path): path for path in tools},
    )


def built(folder: Path, package: str, version: str) -> Wheel:
    """A wheel of the wheelhouse, compiled for the cell's torch."""
    path = wheel(folder, package, version, tag=TAG)
    key = Key(
        package=package, version=version, torch=CELL.torch, python=CELL.python, cuda=CELL.cuda
    )
    return Wheel(key=key, path=path, sha256=files.sha256_file(path))


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


RESULT = Path("results") / CELL.name / "main.host.json"
"""Where a bundle's run leaves that of the cell."""


def written(folder: Path) -> list[str]:
    """The files of the cell's results."""
    return sorted(path.name for path in (folder / RESULT.parent).iterdir())


def result_of(folder: Path, name: Path = RESULT) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / name).read_text())
    return found


OFFLINE = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""Runs what follows in a network namespace of its own, which has nothing but a loopback."""


def offline() -> bool:
    """Whether a process can be run here without a network."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*OFFLINE, "true"], capture_output=True, check=False).returncode == 0


def run(
    folder: Path, *words: str, python: str | Path = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python run.py` in a bundle's folder, without a network where the machine can do that."""
    path = f"{context.find_uv().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": "", **variables}
    return subprocess.run(
        [*(OFFLINE if offline() else ()), str(python), "run.py", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def base_python(folder: Path, *wheels: Path) -> Path:
    """A Python that has packages of its own; stands in for a vendor's container."""
    uv = context.find_uv()
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "-q", "--no-deps", "--no-index", "-p", python, *wheels], check=True
    )
    return python


def contents_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Of every file below a folder when it was changed, and its digest."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, files.sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
