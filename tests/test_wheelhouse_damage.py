"""A wheel that was built here once is never unbuildable: damage is named, and built again or an
error of the surroundings. Nothing is compiled."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from wheelhouse_support import (
    COMPILE_ERROR,
    TE,
    StandIn,
    built,
    ended,
    job_of,
    refused,
    sources,
    stand_in,
    surroundings,
)

from mcore_compat.base import files
from mcore_compat.base.errors import InfrastructureError
from mcore_compat.environments import kept_wheels, toolkits, wheelhouse
from mcore_compat.environments.kept_wheels import Damage, Wheel
from mcore_compat.environments.toolkits import Toolkit
from mcore_compat.index import package_index


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(tmp_path, monkeypatch)


@pytest.fixture
def tools(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path)


def flip(wheel: Wheel) -> None:
    content = bytearray(wheel.path.read_bytes())
    content[3] ^= 1
    wheel.path.write_bytes(content)


def folder_instead(wheel: Wheel) -> None:
    wheel.path.unlink()
    wheel.path.mkdir()


DAMAGES: dict[str, Callable[[Wheel], object]] = {
    "a byte": flip,
    "cut": lambda wheel: wheel.path.write_bytes(wheel.path.read_bytes()[:-3]),
    "empty": lambda wheel: wheel.path.write_bytes(b""),
    "gone": lambda wheel: wheel.path.unlink(),
    "a folder": folder_instead,
    "half a record": lambda wheel: (wheel.path.parent / "build.json").write_text('{"wheel": "'),
    "no record": lambda wheel: (wheel.path.parent / "build.json").unlink(),
    "a deep record": lambda wheel: (wheel.path.parent / "build.json").write_text("[" * 100_000),
    "a record of another's file": lambda wheel: (wheel.path.parent / "build.json").write_text(
        json.dumps({"wheel": "../../x.whl", "sha256": wheel.sha256})
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_was_built_once_is_never_unbuildable(name: str, tools: StandIn) -> None:
    wheel = built(tools)
    DAMAGES[name](wheel)
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    for _ in range(2):  # also where the damaged one was set aside before
        with pytest.raises(InfrastructureError, match="could not be built again") as caught:
            built(tools)
        assert caught.value.exit_code == 3
        assert str(wheel.path.parent) in str(caught.value)
        assert "\n" not in str(caught.value)
    tools.ends.clear()
    assert built(tools) == wheel
    assert wheelhouse.lookup(wheel.key) == wheel


def test_a_damaged_wheel_is_named_with_both_digests_and_kept_aside(tools: StandIn) -> None:
    wheel = built(tools)
    flip(wheel)
    digest = files.sha256_file(wheel.path)
    said: list[str] = []
    job = job_of(tools)
    object.__setattr__(job, "say", said.append)
    assert wheelhouse.ensure(TE, job) == wheel
    assert said[0] == (
        f"{wheel.path} is damaged (sha256 {digest}, recorded {wheel.sha256}); it is kept as "
        f"{wheel.path.name}.damaged; building it again"
    )
    assert files.sha256_file(wheel.path.with_name(f"{wheel.path.name}.damaged")) == digest


@pytest.mark.parametrize("why", ["no toolkit", "no network", "time", "memory"])
def test_a_rebuild_that_fails_for_the_machine_is_no_verdict(
    why: str, tools: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(monkeypatch, "setup.py", "csrc/kernel.cu")
    homes = (Toolkit(home=tmp_path / "of-12", version="12.8"),)
    monkeypatch.setattr(toolkits, "found", lambda run: homes)
    wheel = built(tools, TE)
    flip(wheel)
    if why == "no toolkit":
        monkeypatch.setattr(toolkits, "found", lambda run: ())
    elif why == "no network":

        def unreachable(*_: object) -> Path:
            raise InfrastructureError("the index did not answer")

        monkeypatch.setattr(package_index, "download_sdist", unreachable)
    elif why == "time":
        tools.ends["build"] = ended("[2/9] c++ -c ext.cpp", -9, timed_out=True)
    else:
        tools.ends["build"] = ended("c++: fatal error: Killed signal terminated program", 1)
    with pytest.raises(InfrastructureError, match=r"damaged.*could not be built again"):
        built(tools, TE)


def test_a_wheel_that_cannot_be_read_is_left_where_it_is(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = built(tools)

    def unreadable(path: Path) -> str:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256_file", unreadable)
        with pytest.raises(InfrastructureError, match="cannot be read: Input/output error"):
            built(tools)
    assert built(tools) == wheel
    assert tools.count == 1


def test_a_failed_build_that_is_not_whole_or_cannot_be_read_is_no_answer(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    path = Path(refused(tools).log).parent / "failed.json"
    for text in ("", "[]", '{"inputs": 1}', path.read_text().replace('"reason"', '"other"')):
        path.write_text(text)
        count = tools.count
        refused(tools)
        assert tools.count == count + 1

    real = Path.read_bytes

    def of_another_user(self: Path) -> bytes:
        if self.name == "failed.json":
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", of_another_user)
    with pytest.raises(InfrastructureError, match=r"failed\.json cannot be read"):
        refused(tools)


def test_a_lock_of_another_user_is_an_error_of_the_surroundings(
    tools: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_another_user(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(wheelhouse, "FileLock", of_another_user)
    with pytest.raises(InfrastructureError, match="Permission denied"):
        built(tools)


def test_a_build_that_succeeds_forgets_that_one_failed(tools: StandIn) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    failed = Path(refused(tools).log).parent / "failed.json"
    older = failed.read_text().replace("no driver", "another driver")
    failed.write_text(older)
    tools.ends.clear()
    built(tools)
    assert not failed.exists()


def test_an_import_that_takes_too_long_is_no_verdict(tools: StandIn) -> None:
    tools.ends["import"] = ended("", -9, timed_out=True)
    with pytest.raises(InfrastructureError, match="importing"):
        built(tools)


def test_damage_is_told_from_what_was_never_built(tools: StandIn) -> None:
    tools.ends["build"] = ended(COMPILE_ERROR, 1)
    assert kept_wheels.state(refused(tools).key) is None
    (Path(refused(tools).log).parent / "failed.json").unlink()
    tools.ends.clear()
    wheel = built(tools)
    flip(wheel)
    assert isinstance(kept_wheels.state(wheel.key), Damage)
