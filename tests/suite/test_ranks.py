"""Several ranks, the suite's side: each way to lose something between ranks is said to be broken.

Tensors here are numbers in plain lists and the ranks small Python programs: stand-ins for the
plumbing. `tests/real/test_ranks.py` breaks real ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite.compare import Digest, digest
from suite.ranks import gloo, launch, shards
from suite.ranks.shards import Held, Piece, Whole
from suite.record import Record

from .conftest import ROOT, Run

ROWS = "decoder.layers.0.self_attention.linear_proj.weight"
NORM = "decoder.layers.1.input_layernorm.weight"
FUSED = "decoder.layers.0.mlp.linear_fc1.layer_norm_weight"
VALUES = {ROWS: (10, 11, 12, 13), NORM: (20, 21), FUSED: (30, 31)}


def said(values: tuple[int, ...]) -> Digest:
    return digest(bytes(values), (len(values),), "float32")


def whole(values: tuple[int, ...]) -> Whole:
    return Whole((len(values),), lambda o, n: said(values[o[0] : o[0] + n[0]]))


WHOLES = {(shards.compare.unfused(name), name): whole(v) for name, v in VALUES.items()}


def piece(name: str, offset: int = 0, count: int | None = None, local: str = "") -> Piece:
    values = VALUES[name]
    count = len(values) if count is None else count
    part = values[offset : offset + count]
    return Piece(local or name, name, (offset,), (count,), (len(values),), said(part))


def held(rank: int, *pieces: Piece, stage: int = 0) -> Held:
    return Held(rank, stage, pieces)


TENSOR_PARALLEL = (
    held(0, piece(ROWS, 0, 2), piece(NORM), piece(FUSED)),
    held(1, piece(ROWS, 2, 2), piece(NORM), piece(FUSED)),
)
PIPELINE = (
    held(0, piece(ROWS), piece(FUSED)),
    held(1, piece(NORM, local=NORM.replace("layers.1", "layers.0")), stage=1),
)


@pytest.mark.parametrize("ranks", [TENSOR_PARALLEL, PIPELINE])
def test_ranks_that_hold_all_are_without_fault(ranks: tuple[Held, ...]) -> None:
    assert shards.compared(WHOLES, ranks) == []


def test_what_is_spread_is_counted() -> None:
    assert shards.parallel(TENSOR_PARALLEL) == 1
    assert shards.parallel(PIPELINE) == 3
    assert shards.parallel([held(0, *map(piece, VALUES)), held(1, *map(piece, VALUES))]) == 0


def harmed(change: Callable[[Piece], Piece | None], rank: int = 1) -> tuple[Held, ...]:
    """The tensor-parallel ranks, with the first piece of one of them changed or taken away."""
    one = TENSOR_PARALLEL[rank]
    first = change(one.pieces[0])
    pieces = (*([first] if first else []), *one.pieces[1:])
    return tuple(Held(rank, 0, pieces) if h is one else h for h in TENSOR_PARALLEL)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: replace(p, digest=said((10, 11))), "rank 1: 1 of other values"),
        (lambda p: replace(p, digest=replace(p.digest, dtype="bfloat16")), "of another dtype"),
        (lambda p: replace(p, whole=(8,)), "of another whole shape"),
        (lambda p: replace(p, offset=(3,)), "reaching over the whole tensor"),
        (lambda p: replace(p, key="decoder.norm"), "not saved under this name and key"),
        (lambda p: replace(p, name=FUSED), "not saved under this name and key"),
        (lambda p: None, "not held whole by the ranks together"),
        (lambda p: piece(ROWS, 1, 2), "in pieces that overlap"),
        (lambda p: piece(ROWS, 0, 2), "not held whole by the ranks together"),
    ],
)
def test_a_piece_that_is_not_what_was_saved_is_found(
    change: Callable[[Piece], Piece | None], told: str
) -> None:
    assert told in "; ".join(shards.compared(WHOLES, harmed(change)))


def test_ranks_that_changed_places_are_found() -> None:
    a, b = TENSOR_PARALLEL
    digests = [one.pieces[0].digest for one in (b, a)]
    swapped = [
        Held(one.rank, 0, (replace(one.pieces[0], digest=d), *one.pieces[1:]))
        for one, d in zip((a, b), digests, strict=True)
    ]
    problems = shards.compared(WHOLES, swapped)
    assert [text[:22] for text in problems] == ["rank 0: 1 of other val", "rank 1: 1 of other val"]


def test_a_stage_that_took_the_other_ones_layer_is_found() -> None:
    # The second stage holds what the first one has: under its own names, of other values.
    wrong = (PIPELINE[0], replace(PIPELINE[1], pieces=(piece(ROWS),)))
    problems = "; ".join(shards.compared(WHOLES, wrong))
    assert "rank 1: 1 not saved under this name and key" in problems
    assert f"not held whole by the ranks together: {NORM}" in problems


def test_nothing_to_compare_is_a_fault() -> None:
    assert shards.compared({}, TENSOR_PARALLEL) == ["there is no tensor to compare"]


def test_what_a_rank_tells_is_read_as_it_was_told() -> None:
    told = json.loads(json.dumps(shards.data(TENSOR_PARALLEL[0])))
    assert shards.parsed(told) == TENSOR_PARALLEL[0]


# How ranks end


def program(folder: Path, source: str) -> list[str]:
    """A stand-in for torchrun."""
    folder.mkdir(exist_ok=True)
    path = folder / "ranks.py"
    path.write_text(f"import json, os, signal, sys, time\nfolder = {str(folder)!r}\n{source}")
    return [sys.executable, str(path)]


def test_ranks_that_hang_are_ended_with_all_they_started(tmp_path: Path) -> None:
    source = """
import faulthandler, subprocess
stack = open(folder + "/stack.1", "w")
faulthandler.register(signal.SIGUSR1, stack)
def waits_for_the_other():
    time.sleep(60)
own = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(own, start_new_session=True)
open(folder + "/pid.0", "w").write(str(child.pid))
open(folder + "/pid.1", "w").write(str(os.getpid()))
waits_for_the_other()
"""
    folder = tmp_path / "ranks"
    started = time.monotonic()
    ended = launch.run(program(folder, source), folder, limit=2)
    assert time.monotonic() - started < 20
    assert ended.timed_out
    assert "waits_for_the_other" in ended.stacks[1]
    for rank in (0, 1):
        pid = int((folder / f"pid.{rank}").read_text())
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


def judgement(outcome: str, at: float) -> dict[str, Any]:
    return {"judgement": {"outcome": outcome, "reason": "KeyError: 'x'", "failure": {}}, "at": at}


def test_the_rank_that_failed_first_is_told() -> None:
    failure = launch.first_failure({0: judgement("needs-gpu", 2.0), 1: judgement("broken", 1.0)})
    assert failure is not None
    assert failure.judgement["outcome"] == "broken"
    assert failure.judgement["reason"] == "rank 1: KeyError: 'x'"
    assert launch.first_failure({0: {"found": {}}}) is None


TORCHRUN = """
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 77)
  traceback : Signal 9 (SIGKILL) received by PID 77
"""


@pytest.mark.parametrize(("code", "number"), [("-11", 11), ("-15", None), ("1", None)])
def test_the_signal_of_a_rank_is_read_from_what_torchrun_says(
    code: str, number: int | None
) -> None:
    assert launch.signal_of(TORCHRUN.format(code=code)) == number


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
        (RuntimeError("No backend type associated with device type cuda"), True),
        (KeyError("decoder.layers.0.weight"), False),
        (ValueError("Size mismatch between saved and current"), False),
    ],
)
def test_what_gloo_cannot_do_is_told_from_what_the_packages_do_wrong(
    error: Exception, short: bool
) -> None:
    assert gloo.fell_short(error) is short


def test_what_gloo_could_not_do_is_found_below_another_error() -> None:
    error = ValueError("the checkpoint is not whole")
    error.__cause__ = RuntimeError("Connection reset by peer")
    assert gloo.fell_short(error)


ASK = """
from pathlib import Path
from suite.ranks import launch
from suite.record import Record

def check_it(tmp_path, record):
    place = Path(os.environ["SUITE_TEST"])
    launch.argv = lambda job: [sys.executable, str(place / "ranks.py")]
    launch.asked({{}}, place / "ranks", record, limit={limit})
"""


def asked(
    ask: Callable[..., Run], tmp_path: Path, source: str, limit: float = 20, check_limit: int = 8
) -> Run:
    (tmp_path / "ranks").rmdir() if (tmp_path / "ranks").exists() else None
    text = f"import json, os, signal, sys, time\nfolder = {str(tmp_path / 'ranks')!r}\n{source}"
    (tmp_path / "ranks.py").write_text(text)
    return ask(ASK.format(limit=limit), "--timeout", str(check_limit))


def test_a_rank_that_dies_makes_the_check_crash(ask: Callable[..., Run], tmp_path: Path) -> None:
    found = asked(ask, tmp_path, "print('exitcode  : -11 (pid: 7)'); sys.exit(1)")["it"]
    assert (found["outcome"], found["reason"]) == ("crashed", "killed by SIGSEGV")
    assert found["details"]["ended without a word"] == ["rank 0", "rank 1"]
    assert "exitcode" in found["output"]


def test_a_death_goes_before_what_the_other_rank_missed(
    ask: Callable[..., Run], tmp_path: Path
) -> None:
    other = json.dumps(judgement("needs-gpu", 1.0))
    source = f"open(folder + '/report.0', 'w').write({other!r})\n"
    found = asked(ask, tmp_path, source + "print('exitcode  : -9 (pid: 7)'); sys.exit(1)")["it"]
    assert (found["outcome"], found["reason"]) == ("crashed", "killed by SIGKILL")


def test_a_rank_that_ends_without_a_word_makes_the_check_crash(
    ask: Callable[..., Run], tmp_path: Path
) -> None:
    found = asked(ask, tmp_path, "sys.exit(3)")["it"]
    assert found["outcome"] == "crashed"


def test_ranks_that_hang_make_the_check_time_out(ask: Callable[..., Run], tmp_path: Path) -> None:
    found = asked(ask, tmp_path, "time.sleep(60)", limit=1, check_limit=4)["it"]
    assert found["outcome"] == "timed-out"


# The engine, without packages


RANKS = ("--checks", str(ROOT / "suite" / "ranks"))


def run(tmp_path: Path, *arguments: str) -> tuple[int, str, dict[str, str]]:
    events = tmp_path / "events.jsonl"
    argv = [sys.executable, str(ROOT / "suite" / "run.py"), "--events", str(events)]
    done = subprocess.run(
        [*argv, "--preload", "", *arguments], capture_output=True, text=True, timeout=60
    )
    lines = events.read_text().splitlines() if events.exists() else []
    rows = [row for row in map(json.loads, lines) if row["event"] == "check"]
    return done.returncode, done.stdout + done.stderr, {r["check"]: r["outcome"] for r in rows}


def test_the_main_suite_does_not_ask_the_ranks(tmp_path: Path) -> None:
    code, output, _ = run(tmp_path, "--only", "restore-on-one")
    assert code == 2
    assert "no check matches 'restore-on-one'" in output


def test_each_family_is_asked_in_all_four_ways(tmp_path: Path) -> None:
    code, output, found = run(tmp_path, *RANKS, "--only", "gpt")
    assert code == 0, output
    ways = ("tp1-to-tp2", "tp2-to-tp1", "pp1-to-pp2", "pp2-to-pp1", "on-one")
    assert set(found) == {f"restore-{way}[gpt]" for way in ways}
    assert set(found.values()) == {"unsupported"}  # there is no package here


def test_a_rank_s_judgement_is_the_check_s() -> None:
    script = """
import sys
sys.path.append(sys.argv[1])
from suite import plugin
from suite.ranks import conftest, launch
told = {"outcome": "needs-gpu", "reason": "gloo", "failure": None}
ended = conftest.judged(launch.RankEnded(1, told), host=True, stated="why")
assert ended == {**told, "reason": "rank 1: gloo"}, ended
assert conftest.judged(KeyError("x"), host=True, stated=None)["outcome"] == "broken"
"""
    subprocess.run([sys.executable, "-c", script, str(ROOT)], check=True, timeout=60)


def test_a_details_file_says_that_something_was_broken_on_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.ranks import check_ranks, sabotage

    monkeypatch.setenv(sabotage.VARIABLE, "swap-shards")
    record = Record(tmp_path / "details.jsonl")
    check_ranks.said(record)
    assert record.read()[0] == {"sabotage": "swap-shards"}
    monkeypatch.setenv(sabotage.VARIABLE, "swap-shard")
    with pytest.raises(ValueError, match="there are change-element"):
        check_ranks.said(record)
