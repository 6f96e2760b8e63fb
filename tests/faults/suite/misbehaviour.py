"""How the toy suite behaves badly where TOY_FAULT says so; TOY_SLOW: seconds before each check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

FAULT, _, _AT = os.environ.get("TOY_FAULT", "").partition("@")
AT = int(_AT or 3)
"""The number of the event at which it happens."""

_events = 0


def slowly() -> None:
    """Take as long as a check is told to."""
    time.sleep(float(os.environ.get("TOY_SLOW", "0")))


def write(out: TextIO, event: dict[str, Any]) -> None:
    """Write an event, or something else."""
    global _events
    _events += 1
    line = json.dumps(event) + "\n"
    if _events != AT:
        out.write(line)
        return
    do = globals().get(f"do_{FAULT.replace('-', '_')}")
    if do is None:
        out.write(line)
    else:
        do(out, line, event)


def do_ends(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.flush()
    os._exit(0)


def do_ends_with_70(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.flush()
    os._exit(70)


def do_half_line(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line[: len(line) // 2])
    out.flush()
    os._exit(1)


def do_half_line_goes_on(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line[: len(line) // 2] + "\n")


def do_twice(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line * 2)


def do_garbage(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write("\x00\x1b[31mgarbage\u202e\n" + line)


def do_not_utf8(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.flush()
    out.buffer.write(b"\xff\xfe\xfa\n")
    out.buffer.flush()
    out.write(line)


def do_list(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write("[1, 2, 3]\n" + line)


def do_deep(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write("[" * 100_000 + "\n" + line)


def do_unknown_event(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write('{"event": "nonsense"}\n{"message": "no event"}\n' + line)


def do_unknown_outcome(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(json.dumps({**event, "outcome": "fine"}) + "\n")


def do_other_check(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(json.dumps({**event, "check": "made-up[gpt]", "event": "check"}) + "\n")


def do_nan(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(json.dumps({**event, "seconds": float("nan")}) + "\n")


def do_infinite(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line.replace('"seconds": ', '"seconds": 1e999, "more": '))


def do_other_protocol(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(json.dumps({"event": "start", "suite": 99, "checks": []}) + "\n" + line)


def do_end_early(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write('{"event": "end", "seconds": 0.0}\n' + line)


def do_truncates(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.truncate(0)
    out.write(line)


def do_removes(out: TextIO, line: str, event: dict[str, Any]) -> None:
    Path(out.name).unlink()
    out.write(line)


def do_closes_output(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (to the end)
    os.close(1)
    os.close(2)


def do_much_output(out: TextIO, line: str, event: dict[str, Any]) -> None:
    sys.stdout.write("\x1b[2J\u202e much\n" + "x" * 5_000_000 + "\n")
    sys.stdout.flush()
    out.write(line)


def do_leaves_processes(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line)
    for own_session in (False, True):
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=own_session
        )


def do_daemon(out: TextIO, line: str, event: dict[str, Any]) -> None:
    out.write(line)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 3)
            time.sleep(600)
        os._exit(0)


def do_hangs(out: TextIO, line: str, event: dict[str, Any]) -> None:
    """It does nothing any more for a while, as on a machine that is too busy."""
    out.write(line)
    time.sleep(3)
