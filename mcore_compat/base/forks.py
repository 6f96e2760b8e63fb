"""A call in a forked process, for work that needs what is in memory here and can wait there."""

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
    """Run `call` in a forked process from the start of the `with` block on; what is yielded waits
    for it, returns what it returned and raises what it raised, or an InfrastructureError where the
    process was killed, as where memory is short. One that nobody has waited for is ended, and one
    whose parent dies, however that dies.

    Only for processes of one thread. What `call` returns or raises must be picklable.
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
            why = "a process that was to write files was killed; try again"
            raise InfrastructureError(why) from None
        if error is not None:
            raise error
        returned: T = value
        return returned

    try:
        yield result
    finally:
        with contextlib.suppress(PermissionError):  # some sandboxes refuse all signals
            child.kill()  # what it had to say is said, or nobody waits for it any more
        receiver.close()
        child.join()


def _answer(call: Callable[[], object], sender: Any, parent: int) -> None:
    from mcore_compat.base import processes  # slow to import, too

    processes.die_with_parent(signal.SIGKILL)
    # What the parent does at a signal is not for this process, which just dies of it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the parent, too
    if os.getppid() != parent:  # it died before that was asked for
        return
    try:
        sender.send((call(), None))
    except BaseException as error:
        sender.send((None, error))
