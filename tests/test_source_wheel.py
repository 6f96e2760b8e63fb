"""Wheels of what a source distribution has in Python: the packages, and what they require."""

from __future__ import annotations

import email
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.environments import source_wheel

REQUIRES_TXT = "torch\neinops\n\n[dev]\npytest\n"
FILES = {
    "setup.py": "raise SystemExit('nothing is run')",
    "mamba_ssm/__init__.py": "",
    "mamba_ssm/ops/__init__.py": "",
    "mamba_ssm/ops/scan.py": "x = 1",
    "mamba_ssm/no_package/loose.py": "x = 1",
    "mamba_ssm/ops/no_package/below/__init__.py": "",
    "csrc/scan.cu": "",
    "tests/__init__.py": "",
    "mamba_ssm.egg-info/requires.txt": REQUIRES_TXT,
    "PKG-INFO": "Metadata-Version: 2.1\nName: mamba_ssm\nRequires-Python: >=3.9\n"
    "Provides-Extra: dev\n\nRequires-Dist: not a field but a description\n",
}


def sdist(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "mamba_ssm-2.2.4.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"mamba_ssm-2.2.4/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def made(folder: Path, files: dict[str, str]) -> zipfile.ZipFile:
    path = source_wheel.make(sdist(folder, files), "mamba-ssm", "2.2.4", "mamba_ssm", folder)
    assert path.name == "mamba_ssm-2.2.4-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_it_has_the_files_of_packages_and_nothing_else(tmp_path: Path) -> None:
    names = [name for name in made(tmp_path, FILES).namelist() if ".dist-info" not in name]
    assert names == ["mamba_ssm/__init__.py", "mamba_ssm/ops/__init__.py", "mamba_ssm/ops/scan.py"]


def test_it_requires_what_its_sources_say(tmp_path: Path) -> None:
    metadata = email.message_from_bytes(
        made(tmp_path, FILES).read("mamba_ssm-2.2.4.dist-info/METADATA")
    )
    assert metadata.get_all("Requires-Dist") == ["torch", "einops", 'pytest; extra == "dev"']
    assert (metadata["Requires-Python"], metadata["Provides-Extra"]) == (">=3.9", "dev")
    newer = {**FILES, "PKG-INFO": "Requires-Dist: triton\n"}
    metadata = email.message_from_bytes(
        made(tmp_path, newer).read("mamba_ssm-2.2.4.dist-info/METADATA")
    )
    assert metadata.get_all("Requires-Dist") == ["triton"], "what metadata says, it says whole"


def test_sources_without_the_package_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="has no package mamba_ssm"):
        made(tmp_path, {"setup.py": ""})
    (tmp_path / "half.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InfrastructureError, match="cannot be read"):
        source_wheel.make(tmp_path / "half.tar.gz", "mamba-ssm", "2.2.4", "mamba_ssm", tmp_path)
