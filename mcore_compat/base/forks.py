"""Runs a call in a forked process, for parallel work on data that is already in memory."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mcore_compat.base.errors import InfrastructureError

T = TypeVar("T")


@contextlib.contextmanager
def forked(call: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Start `call` in a forked process. The yielded function waits for it and returns its result
    or raises its exception, or InfrastructureError if the process was killed (by a lack of memory,
    for example). The process is killed if nobody waits for it or its parent dies.

    Only for processes with one thread. Results and exceptions must be picklable.
    """
    import multiprocessing  # slow to import, and most commands fork nothing

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(call, sender, os.getpid()))
    child.start()
    sender.close()

    def result() -> T:
        try:
            value, error = receiver.recv()
        except EOFError:
            why = "a forked process that writes files was killed; try again"
            raise InfrastructureError(why) from None
        if error is not None:
            raise error
        returned: T = value
        return returned

    try:
        yield result
    finally:
        with contextlib.suppress(PermissionError):  # some sandboxes refuse all signals
            child.kill()  # its result was received, or nobody waits for it any more
        receiver.close()
        child.join()


def _answer(call: Callable[[], object], sender: Any, parent: int) -> None:
    from mcore_compat.base import processes  # slow to import, too

    processes.die_with_parent(signal.SIGKILL)
    # The parent's signal handlers are not for this process, which simply ends.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C also reaches the parent, which ends this process
    if os.getppid() != parent:  # the parent died before `die_with_parent` took effect
        return
    try:
        sender.send((call(), None))
    except BaseException as error:
        sender.send((None, error))
