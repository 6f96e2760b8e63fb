"""A failure's fingerprint: equal for equal causes, over cells, machines and runs. Pure.

Made from the exception's type, the innermost frame in a package under test (module and function,
never the line) and the message without parts that differ from run to run.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

UNDER_TEST = ("megatron", "modelopt", "transformer_engine", "mamba_ssm", "causal_conv1d", "torch")
"""Top-level modules of the packages under test; the innermost frame in one of them counts."""

_VARYING = (
    # A check's own folder, which has the beginning of its name. Before paths: it is a part of one.
    (re.compile(r"\bcheckcheck_\w+\d(?=/)"), "<tmp>"),
    (re.compile(r"0x[0-9a-fA-F]{4,}"), "<address>"),
    (re.compile(r"(?:/[^\s'\":,;()\[\]<>]+)+/"), "<path>/"),
    (re.compile(r"\b\d+(?:\.\d+)?\s*(?:ms|s|seconds|secs?)\b"), "<time>"),
    (re.compile(r"\bpid[ =:]*\d+", re.IGNORECASE), "pid <n>"),
    (re.compile(r"\btmp[A-Za-z0-9_]{6,}"), "<tmp>"),
    (re.compile(r"\bmcore-compat-suite-\w+"), "<tmp>"),
    # A printed model: its modules differ with its quantization.
    (re.compile(r"\(\s+\(\w+\): .*", re.DOTALL), "(<model>)"),
    (re.compile(r"\b\d{5,}\b"), "<n>"),
    (re.compile(r"\s+"), " "),
)


_OF_THIS_RUN = (
    (re.compile(r"\benvs/[^/\s'\"]+/(?=bin/|lib/)"), ""),
    (re.compile(r"\bpid=\d+"), "pid <n>"),
    (re.compile(r"\b(tracker_fd|pipe_handle)=\d+"), r"\1=<n>"),
    (re.compile(r"(resource_tracker import main;main)\(\d+\)"), r"\1(<n>)"),
    (re.compile(r"(\bsuite/run\.py) --tools\b.*"), r"\1"),
)
"""An environment's name, numbers of processes and file descriptors, and the arguments of the
suite's own process. Without them equal cells have equal values, which are stored once."""


def portable(text: str, folders: Sequence[str] = ()) -> str:
    """Foreign text without what only this machine and this run have: `folders` and everything up to
    `site-packages/` are cut off, and numbers of processes are replaced."""
    text = re.sub(r"(?:/[^\s'\":,;()<>]+)*/site-packages/", "", text)
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(folder.rstrip("/") + "/", "").replace(folder, "")
    text = re.sub(r"/tmp/[A-Za-z0-9._-]+", "<tmp>", text)
    for pattern, instead in _OF_THIS_RUN:
        text = pattern.sub(instead, text)
    return text


_NAME = re.compile(
    r"\"?\b(?:decoder|embedding|output_layer)\.(?P<rest>[\w.]+\w)(?:/shard_[\d_]+)?\"?"
)
"""The name of a tensor or an extra state of a Megatron model in a state dict."""

_BETWEEN = re.compile(r"(?:,\s*|\s+and \d+ more)+")
_COUNT = re.compile(r"(?<![\w.])\d+ (?=(?:missing|additional|other|not|in|asked|of|tensors?)\b)")


def _cause(rest: str) -> str:
    """The part of a name that matters for the cause: not the layer, nor which quantizer of a
    module."""
    parts = [part for part in rest.split(".") if not part.isdigit() and part != "layers"]
    if parts and parts[-1].endswith("_extra_state"):
        return parts[-1]
    while parts and (parts[-1] == "_amax" or parts[-1].endswith("_quantizer")):
        parts.pop()
    return ".".join(parts) or rest


def _aside(text: str, start: int) -> int:
    """The end of a remark in brackets that begins at `start`; `start` if there is none."""
    if not text.startswith(" (", start):
        return start
    depth = 0
    for place in range(start + 1, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    return len(text)


def without_names(message: str) -> str:
    """The message with each list of a model's names replaced by the set of parts that matter for
    the cause."""
    pieces: list[str] = []
    causes: set[str] = set()
    place = 0
    for match in _NAME.finditer(message):
        if match.start() < place:
            continue  # within a remark
        between = message[place : match.start()]
        if causes and not _BETWEEN.fullmatch(between):
            pieces.append(f"<{', '.join(sorted(causes))}>")
            causes = set()
        if not causes:
            pieces.append(between)
        causes.add(_cause(match["rest"]))
        place = _aside(message, match.end())
    if causes:
        pieces.append(f"<{', '.join(sorted(causes))}>")
    rest = message[place:]
    return "".join(pieces) + (re.sub(r"^ and \d+ more", "", rest) if causes else rest)


def normalised(message: str) -> str:
    """A message without addresses, paths, timings, process ids and large numbers, and without the
    names and number of a model's tensors."""
    message = _COUNT.sub("<n> ", without_names(message))
    for pattern, word in _VARYING:
        message = pattern.sub(word, message)
    return message.strip()


def frame_of(frames: Sequence[Mapping[str, Any]]) -> str:
    """`module:function` of the innermost frame in a package under test, else of the innermost."""
    for frame in reversed(frames):
        module = str(frame.get("module", ""))
        if module.split(".")[0] in UNDER_TEST:
            return f"{module}:{frame.get('function', '')}"
    if frames:
        return f"{frames[-1].get('module', '')}:{frames[-1].get('function', '')}"
    return ""


MESSAGE = 2000
"""The number of characters of a message that are stored and used for the fingerprint."""


@functools.cache
def of(kind: str, message: str, frame: str) -> str:
    """Twelve hex digits for an exception of type `kind` with `message`, raised in `frame`."""
    text = "\0".join((kind, frame, normalised(message[:MESSAGE])))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
