"""System calls that fail, by strace: in every process of a command, from some call on or once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from faults.kinds.registry import STRACE, add
from faults.trial import Trial
from faults.workshop import INSTALLS, RUNS, Launch

MANY = (*RUNS, *INSTALLS, "report", "lock", "refresh", "collect")

CALLS: dict[str, tuple[str, Sequence[str], int]] = {
    "write": ("write,writev,pwrite64", ("ENOSPC", "EIO", "EDQUOT"), 40),
    "sync": ("fsync,fdatasync", ("EIO", "ENOSPC"), 4),
    "rename": ("rename,renameat,renameat2", ("EACCES", "ENOSPC", "EIO", "EXDEV"), 6),
    "mkdir": ("mkdir,mkdirat", ("EDQUOT", "EMLINK", "EROFS"), 6),
    "unlink": ("unlink,unlinkat", ("EIO", "EROFS"), 6),
    "flock": ("flock", ("ENOLCK", "EIO"), 4),
    "fork": ("fork,vfork,clone,clone3", ("EAGAIN", "ENOMEM"), 8),
    "pipe": ("pipe,pipe2", ("EMFILE", "ENFILE"), 6),
    "connect": ("connect", ("ENETUNREACH", "ECONNREFUSED", "ETIMEDOUT"), 8),
    "chmod": ("chmod,fchmod,fchmodat", ("EPERM", "EROFS"), 4),
    "link": ("link,linkat,symlink,symlinkat", ("EMLINK", "EPERM"), 4),
    "kill": ("kill,tgkill", ("EPERM",), 2),
}
"""By name: the calls, the errors, and up to which call of a process it begins. Only calls that a
Python does not make before the program's own first line."""


def _fails(
    trial: Trial, *, calls: str, errors: Sequence[str], most: int, once: bool
) -> Iterator[Launch]:
    error, number = trial.random.choice(errors), trial.random.randint(1, most)
    when = f"{number}" if once else f"{number}+"
    words = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={calls}"]
    yield Launch(prefix=(*words, "-e", f"inject={calls}:error={error}:when={when}"), limit=60.0)


for _name, (_calls, _errors, _most) in CALLS.items():
    for _once, _word in ((True, "once"), (False, "for good")):
        add(
            f"call-{_name}-fails-{_word.replace(' ', '-')}",
            f"{_name} fails in each process, {_word}",
            ("refresh", *INSTALLS) if _name == "connect" else MANY,
            partial(_fails, calls=_calls, errors=_errors, most=_most, once=_once),
            # One that cannot say why it ends, or end: no output can be written.
            codes=(1, 120) if _name == "write" else (),
            # What cannot be removed now is for the next run.
            stuck=_name == "unlink",
            needs=(STRACE,),
            share=0.8,
        )
