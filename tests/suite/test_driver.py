"""The driver's version by NVML, with a stand-in for its library that is compiled here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

SOURCE = """
#include <stdio.h>
static int ready;
int nvmlInit_v2(void) {{ ready = {code} == 0; return {code}; }}
int nvmlShutdown(void) {{ ready = 0; return 0; }}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) {{
    if (!ready) return 1;
    return snprintf(text, length, "580.65.06") < (int)length ? {answer} : 7;
}}
"""
ASK = "from suite import machine; print(machine.nvml_driver(), machine.describe()['driver'])"


def told(folder: Path) -> list[str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("code", "answer", "version"), [(0, 0, "580.65.06"), (9, 0, "None"), (0, 3, "None")]
)
def test_nvml_says_the_drivers_version(
    code: int, answer: int, version: str, tmp_path: Path
) -> None:
    source = tmp_path / "nvml.c"
    source.write_text(SOURCE.format(code=code, answer=answer))
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    nvml, driver = told(tmp_path)
    assert nvml == version
    if not Path("/proc/driver/nvidia/version").exists():
        assert driver == version


def test_without_a_driver_there_is_no_version(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    assert told(tmp_path)[0] == "None"
