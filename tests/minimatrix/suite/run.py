"""The toy suite: speaks the protocol of `suite/run.py`, and asks toy packages a few checks.

TOY_ENDS_AFTER ends it early after so many checks and records; TOY_HANGS_AT names a check that
hangs, in cells whose megatron-core begins with TOY_HANGS_IN.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FAMILIES = ("gpt", "moe")
PACKAGES = ("megatron.core", "modelopt", "torch", "transformer_engine")
KINDS = {"default": "default", "modelopt": "modelopt", "default-to-modelopt": "default"}
KINDS["quantized"] = "quantized"

FEATURES = {
    "import": "install",
    "restore": "restore",
    "modelopt-state-fp8": "quantize",
    "logits": "inference",
}

Check = tuple[str, str, str | None, tuple[str, ...], Callable[[], Any]]
"""Id, kind, family, the checks before it, and what it does; it returns details."""


class NeedsGpu(Exception):  # noqa: N818 (no error)
    """Cannot be asked here."""


def asked_import() -> dict[str, Any]:
    import megatron.core
    import modelopt

    return {"modules": sorted(m.__name__ for m in (megatron.core, modelopt))}


def asked_signatures() -> dict[str, Any]:
    found = {}
    for name in PACKAGES:
        module = __import__(name, fromlist=["x"])
        for key, function in inspect.getmembers(module, inspect.isfunction):
            found[f"{name}:{key}"] = str(inspect.signature(function))
    return found


def checkpoint(family: str) -> dict[str, int]:
    from megatron import core

    return {key: len(key) for key in core.default_spec(family)}


def restored(family: str, saved: dict[str, int]) -> dict[str, int]:
    import modelopt
    from megatron import core

    there: dict[str, int] = core.restore(family, saved)
    assert list(modelopt.convert(there)) == list(saved), "tensors are lost"
    return there


def asked_restore(family: str) -> dict[str, Any]:
    return {"tensors": len(restored(family, checkpoint(family)))}


def asked_state(family: str) -> dict[str, Any]:
    import modelopt

    return {"quantizers": len(modelopt.quantize(checkpoint(family)))}


def asked_logits(family: str) -> dict[str, Any]:
    raise NeedsGpu("there is no GPU")


def save(family: str, kind: str) -> dict[str, Any]:
    import modelopt

    saved: dict[str, Any] = checkpoint(family)
    if kind != "default":
        saved = restored(family, saved)
    if kind == "quantized":
        saved = modelopt.quantize(saved)
    folder = Path(os.environ["MCORE_COMPAT_CHECKPOINTS"]) / family / kind
    folder.mkdir(parents=True)
    for name in ("manifest.json", "checkpoint.json"):
        (folder / name).write_text(json.dumps(saved))
    return {"tensors": len(saved)}


def load(cell: str, family: str, way: str) -> dict[str, Any]:
    folder = Path(os.environ["MCORE_COMPAT_LOAD_FROM"]) / cell / family / KINDS[way]
    saved = json.loads((folder / "checkpoint.json").read_text())
    from megatron import core

    if way == "default":
        assert [*saved] == core.default_spec(family), "other keys than the model's"
    else:
        restored(family, saved)
    return {}


def main_checks() -> list[Check]:
    found: list[Check] = [
        ("import", "import", None, (), asked_import),
        ("signatures", "signatures", None, ("import",), asked_signatures),
    ]
    for of in FAMILIES:
        for kind, do, after in (
            ("restore", asked_restore, "import"),
            ("modelopt-state-fp8", asked_state, f"restore[{of}]"),
            ("logits", asked_logits, f"restore[{of}]"),
        ):
            found.append((f"{kind}[{of}]", kind, of, (after,), lambda do=do, of=of: do(of)))
    return found


def exchange_checks() -> list[Check]:
    found: list[Check] = []
    if "MCORE_COMPAT_CHECKPOINTS" in os.environ:
        for of in FAMILIES:
            for kind in ("default", "modelopt", "quantized"):
                name = f"save-{kind}"
                after = ("save-modelopt[{of}]",) if kind == "quantized" else ()
                after = tuple(text.format(of=of) for text in after)
                found.append((f"{name}[{of}]", name, of, after, lambda o=of, k=kind: save(o, k)))
        return found
    root = Path(os.environ["MCORE_COMPAT_LOAD_FROM"])
    for word in os.environ["MCORE_COMPAT_LOADED"].split(","):
        cell, way = word.split(":")
        for of in FAMILIES:
            if (root / cell / of / KINDS[way]).is_dir():
                name = f"restore-from[{cell}:{of}:{way}]"
                found.append(
                    (name, "restore-from", None, (), lambda a=cell, b=of, c=way: load(a, b, c))
                )
    return found


def failure(error: BaseException) -> dict[str, Any]:
    frames = []
    for entry in traceback.extract_tb(error.__traceback__):
        file = entry.filename.rpartition("site-packages/")[2]
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        frames.append(
            {"module": module, "file": file, "line": entry.lineno, "function": entry.name}
        )
    return {
        "type": type(error).__name__,
        "message": str(error),
        "frames": frames,
        "traceback": "".join(traceback.format_exception(error)),
        "gpu_independent": "a toy has no device",
    }


def ask(do: Callable[[], Any], limit: float) -> dict[str, Any]:
    """In a child, so that what dies takes nothing with it."""
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        said: dict[str, Any]
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            said = {"outcome": "works", "reason": None, "details": do()}
        except NeedsGpu as why:
            said = {"outcome": "needs-gpu", "reason": str(why)}
        except Exception as error:
            told = failure(error)
            reason = f"{told['type']}: {told['message']}"
            said = {"outcome": "broken", "reason": reason, "failure": told}
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text:
        found: dict[str, Any] = json.loads(text)
        return found
    name = signal.Signals(os.WTERMSIG(status)).name
    late = name == "SIGALRM"
    died = {"type": name, "message": f"the process died: {name}", "frames": [], "traceback": ""}
    return {
        "outcome": "timed-out" if late else "crashed",
        "reason": died["message"],
        "failure": {**died, "gpu_independent": None},
    }


def hang(name: str) -> None:
    in_this = metadata.version("megatron-core").startswith(os.environ.get("TOY_HANGS_IN", ""))
    if os.environ.get("TOY_HANGS_AT") == name and in_this:
        time.sleep(60)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--gpu", default="auto")
    parser.add_argument("--checks", type=Path, default=HERE)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != HERE]
    assert list(options.tools.glob("pytest-*.dist-info")), "the suite's tools are not there"

    def say(event: str, **fields: Any) -> None:
        with options.events.open("a") as out:
            out.write(json.dumps({"event": event, **fields}) + "\n")

    checks = exchange_checks() if options.checks.name == "exchange" else main_checks()
    words = [word for word in options.only.split(",") if word]
    checks = [c for c in checks if not words or {c[0], c[1], c[2]} & {*words}]
    if not checks:
        say("error", message=f"no check matches {options.only!r}")
        return 2
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    say(
        "start",
        suite=1,
        device_class="host",
        platform={"python": platform.python_version()},
        installed=installed,
        checks=[check[0] for check in checks if check[1] != "signatures"],
    )
    ended: dict[str, str] = {}
    for number, (name, kind, family, after, do) in enumerate(checks):
        if str(number) == os.environ.get("TOY_ENDS_AFTER"):
            return 3
        hang(name)
        started = time.monotonic()
        bad = [a for a in after if ended.get(a) in ("broken", "crashed", "timed-out", "blocked")]
        if bad:
            said: dict[str, Any] = {"outcome": "blocked", "reason": f"{bad[0]} failed"}
        else:
            said = ask(do, options.timeout)
        seconds = time.monotonic() - started
        if kind == "signatures":
            say(
                "record",
                record=kind,
                seconds=seconds,
                failure=None,
                details=said.get("details", {}),
            )
            continue
        ended[name] = said["outcome"]
        fields = {"failure": None, "details": {}, "warnings": [], "output": "", **said}
        feature = {"feature": FEATURES.get(kind, "restore"), "condition": None}
        say("check", check=name, kind=kind, family=family, seconds=seconds, **feature, **fields)
        print(name, said["outcome"], flush=True)
    say("end", seconds=0.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
