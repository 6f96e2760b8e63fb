"""Compiled Python is linked from one environment into the next, and only where sources are one."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcore_compat.environments import bytecode


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages with one package, compiled."""
    monkeypatch.setenv("MCORE_COMPAT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)  # compiled beside its source
    monkeypatch.setattr(sys, "pycache_prefix", None)
    package = tmp_path / "one" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from package import inner\n")
    (package / "inner.py").write_text("def where():\n    raise ValueError('here')\n")
    assert compileall.compile_dir(package, quiet=2)
    return tmp_path / "one"


def other(site: Path, *, linked: bool) -> Path:
    """A second environment with the same sources: hard-linked, or copies of them."""
    place = site.with_name("two")
    (place / "package").mkdir(parents=True)
    for name in ("__init__.py", "inner.py"):
        source, target = site / "package" / name, place / "package" / name
        if linked:
            os.link(source, target)
        else:
            target.write_bytes(source.read_bytes())
    return place


def compiled(site: Path) -> list[Path]:
    return sorted((site / "package").glob("__pycache__/*.pyc"))


def test_what_one_environment_compiled_the_next_has(site: Path) -> None:
    assert bytecode.keep(site) == 2
    assert bytecode.keep(site) == 0
    two = other(site, linked=True)
    assert bytecode.link(two) == 2
    for one, same in zip(compiled(site), compiled(two), strict=True):
        assert one.samefile(same)


def test_python_takes_it_and_names_its_own_file(site: Path) -> None:
    bytecode.keep(site)
    two = other(site, linked=True)
    bytecode.link(two)
    before = {path: path.stat().st_ino for path in compiled(two)}
    done = subprocess.run(
        [sys.executable, "-v", "-c", "import package; package.inner.where()"],
        env={"PYTHONPATH": str(two)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"# code object from '{compiled(two)[1]}'" in done.stderr
    assert f'File "{two}/package/inner.py", line 2, in where' in done.stderr
    assert {path: path.stat().st_ino for path in compiled(two)} == before


def test_other_sources_get_nothing(site: Path) -> None:
    bytecode.keep(site)
    two = other(site, linked=False)
    assert bytecode.link(two) == 0
    assert compiled(two) == []


def test_a_source_that_changed_is_another(site: Path) -> None:
    bytecode.keep(site)
    two = other(site, linked=True)
    (two / "package" / "inner.py").write_text("def where():\n    return 'elsewhere'\n")
    assert bytecode.link(two) == 0 or len(compiled(two)) == 1


def test_nothing_kept_is_no_error(site: Path) -> None:
    assert bytecode.link(site) == 0
