"""Answers from pins and messages alone: which versions the code of a release accepts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import snapshot
from ranges_support import MCORE, UTILS, known
from test_doctor import RIGHT, VERSIONS, published_of

from mcore_compat import cli
from mcore_compat.analysis import error_text, pin_drift, published, refused_versions
from mcore_compat.analysis.around import code
from mcore_compat.analysis.around.locked import NO_LOCKS
from mcore_compat.analysis.pin_drift import PackageFacts, PinDrift
from mcore_compat.analysis.remarks import FAULT, NOTE
from mcore_compat.environments import version_guards

NOTHING = published_of()


def drift(folder: Path, *pins: str) -> PinDrift:
    """What is said of a file with these lines, without a result."""
    file = folder / "pins.txt"
    file.write_text("\n".join(pins))
    matrix = replace(snapshot.matrix(), undeclared=())
    facts = PackageFacts(locked=NO_LOCKS, ranges=known(folder / "code"), matrix=matrix)
    return pin_drift.check([file], NOTHING, facts)


def test_a_pin_that_the_code_accepts_is_said_to_be_accepted(tmp_path: Path) -> None:
    told = drift(tmp_path, "transformer-engine[pytorch]==2.12", "flash_attn==2.8.3")
    assert told.remarks == ()
    assert told.accepted == (
        f"flash-attn 2.8.3 is within what transformer-engine 2.12 accepts, >=2.1.1,<=2.8.3 "
        f"({UTILS}:4)",
    )


@pytest.mark.parametrize(
    ("te", "flash", "kind", "effect"),
    [
        ("transformer-engine==2.5.0", "2.8.3", NOTE, "goes on without flash-attn"),
        ("transformer-engine==2.12.0", "2.8.3.post1", NOTE, "goes on without flash-attn"),
        ("transformer-engine==2.20.2", "2.8.4", NOTE, "goes on without flash-attn"),
        ("transformer-engine-cu12==2.5.0", "2.8.3", NOTE, "goes on without flash-attn"),
        ("transformer-engine==1.11.0", "2.8.3", FAULT, "raises an AssertionError"),
    ],
)
def test_a_pin_out_of_a_range_is_told_at_its_line(
    te: str, flash: str, kind: str, effect: str, tmp_path: Path
) -> None:
    told = drift(tmp_path, te, "", f"flash-attn=={flash}")
    (remark,) = told.remarks
    assert (remark.kind, remark.file, remark.line) == (kind, str(tmp_path / "pins.txt"), 3)
    assert remark.text.startswith(f"flash-attn {flash} is pinned, but transformer-engine ")
    assert effect in remark.text
    assert remark.help.startswith("write flash-attn")
    assert told.accepted == ()


def test_a_post_release_below_an_excluded_bound_is_accepted(tmp_path: Path) -> None:
    assert drift(tmp_path, "transformer-engine==2.20.2", "flash-attn==2.8.3.post1").accepted


def test_a_bound_of_some_gpus_is_said_beside(tmp_path: Path) -> None:
    (said,) = drift(tmp_path, "transformer-engine==2.12.0", "flash-attn==2.5.8").accepted
    assert said.endswith("; on GPUs of compute capability 10.0 and newer only from 2.7.3 on")


@pytest.mark.parametrize(
    "pins",
    [
        ("transformer-engine==2.13.0", "flash-attn==9"),  # a release that was not read
        ("transformer-engine==2.12.0", "flash-attn<=9"),  # no pin
        ("transformer-engine==2.12.0",),
        ("flash-attn==2.8.3",),
        ("nvidia-modelopt==0.31.0", "transformers==5.0"),  # its code does not look
    ],
)
def test_nothing_is_said_where_nothing_is_known(pins: tuple[str, ...], tmp_path: Path) -> None:
    told = drift(tmp_path, *pins)
    assert (told.remarks, told.accepted) == ((), ())


def test_what_depends_on_files_of_the_other_package_is_only_a_note(tmp_path: Path) -> None:
    """In an environment, it is a fault if these files are there, else nothing."""
    pins = (f"{MCORE}==0.18.0", "nvidia-resiliency-ext==0.4.1")
    (remark,) = drift(tmp_path, *pins).remarks
    assert remark.kind == NOTE
    assert ", if that nvidia-resiliency-ext has nvidia_resiliency_ext/" in remark.text
    assert remark.help.startswith("leave out nvidia-resiliency-ext: ")


def test_an_environment_is_answered_in_the_same_words(tmp_path: Path) -> None:
    known(tmp_path)
    ranges = version_guards.ranges([tmp_path / "transformer-engine" / "2.12.0"], {"flash-attn"})
    there = replace(RIGHT, versions={**VERSIONS, "flash-attn": "2.8.3"})
    (said,) = code.accepted(ranges, there.versions)
    assert said.startswith("flash-attn 2.8.3 is within what transformer-engine 2.11.0 accepts, ")


@pytest.mark.usefixtures("on_snapshot")
def test_doctor_says_what_is_accepted_if_asked_and_to_tools_always(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "load", lambda _: NOTHING)
    file = tmp_path / "pins.txt"
    file.write_text("transformer-engine==2.12.0\nflash-attn==2.8.3\n")

    def said(*options: str) -> str:
        assert cli.main(["doctor", "--requirements", str(file), *options]) == 0
        return capsys.readouterr().out

    sentence = "flash-attn 2.8.3 is within what transformer-engine 2.12.0 accepts, >=2.1.1,<=2.8.3"
    assert said() == ""
    assert said("-v").startswith(f"{sentence} ({UTILS}:116)\ntransformer-engine 2.12.0\n")
    (accepted,) = json.loads(said("--format", "json"))["accepted"]
    assert accepted.startswith(sentence)


def told(message: str, folder: Path) -> tuple[str, ...]:
    """The lines of an answer but for the last; empty if there is none."""
    (error,) = error_text.errors(message)
    answer = refused_versions.answer(error, known(folder))
    return (answer.first, *answer.rest[:-1]) if answer else ()


WITHOUT = (
    "otherwise: Transformer Engine goes on without flash-attn, with cuDNN's or its own attention"
)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (
            "ValueError: Supported flash-attn versions are >= 2.1.1, <= 2.7.4.post1. Found "
            "flash-attn 2.8.3.",
            (
                "transformer-engine 2.2.0 to 2.5.0 accepts flash-attn >=2.1.1,<=2.7.4.post1; "
                "flash-attn 2.8.3 is accepted by transformer-engine 2.12.0 to 2.20.2",
                WITHOUT,
                "take: flash-attn >=2.1.1,<=2.7.4.post1, or transformer-engine 2.12.0 to 2.20.2",
            ),
        ),
        (
            "[WARNING | DotProductAttention]: Supported flash-attn versions are >= 2.7.3, <= 2.8.3."
            " Found flash-attn 2.5.8.",
            (
                "transformer-engine 2.12.0 accepts flash-attn >=2.7.3,<=2.8.3 on GPUs of compute "
                "capability 10.0 and newer; flash-attn 2.5.8 is accepted by no release",
                WITHOUT,
                "take: flash-attn >=2.7.3,<=2.8.3",
            ),
        ),
        (
            "Supported flash-attn versions are >= 2.1.1, < 2.8.4. Found flash-attn 2.6.3+x.",
            (),  # which that release accepts
        ),
        (
            "AssertionError: FlashAttention maximum version 2.6.3 is supported.",
            (
                "transformer-engine 1.11.0 accepts flash-attn >=2.0.6,<=2.6.3",
                "otherwise: each DotProductAttention of it raises an AssertionError",
                "take: flash-attn >=2.0.6,<=2.6.3",
            ),
        ),
        ("AssertionError: FlashAttention maximum version 9.9 is supported.", ()),
        (
            "AssertionError: Minimum required nvidia-resiliency-ext package version is 0.6.0.",
            (
                "megatron-core 0.18.0 accepts nvidia-resiliency-ext >=0.6.0",
                "otherwise: megatron.core.dist_checkpointing cannot be imported, and no checkpoint "
                "is saved or loaded",
                "take: nvidia-resiliency-ext >=0.6.0",
            ),
        ),
        (
            "UserWarning: transformers version 5.2.0 is not tested with nvidia-modelopt and may "
            "cause issues.",
            (
                "nvidia-modelopt 0.43.0 to 0.44.0 accepts transformers >=4.53,<5.0 or >=4.56,<5.0; "
                "transformers 5.2.0 is accepted by nvidia-modelopt 0.45.0",
                "otherwise: ModelOpt warns that it is not tested with it: its plugins for Hugging "
                "Face models may fail",
                "take: transformers >=4.53,<5.0 or >=4.56,<5.0, or nvidia-modelopt 0.45.0",
            ),
        ),
        ("flash-attn is not installed", ()),
    ],
)
def test_a_message_is_answered_with_the_releases_that_say_it(
    message: str, answer: tuple[str, ...], tmp_path: Path
) -> None:
    assert told(message, tmp_path) == answer


@pytest.mark.usefixtures("on_snapshot")
def test_explain_answers_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "load", lambda _: NOTHING)
    text = "Supported flash-attn versions are >= 2.1.1, <= 2.8.1. Found flash-attn 2.8.3."
    assert cli.main(["explain", "--error", text]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("known: transformer-engine 2.6.0 to 2.9.0 accepts flash-attn ")
