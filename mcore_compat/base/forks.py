"""A call in a forked process, for work that needs what is in memory here and can wait there."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from mcore_compat.base.errors import InfrastructureError

T = TypeVar("T")


class Forked(Generic[T]):
    """Runs `call` in a forked process from the start of the `with` block on; `result` waits.

    Only for processes of one thread. What `call` returns or raises must be picklable.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call

    def __enter__(self) -> Forked[T]:
        sys.stdout.flush()
        sys.stderr.flush()
        self._from, into = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._from)
            self._child(into)
        os.close(into)
        return self

    def _child(self, into: int) -> None:
        answer: tuple[bool, Any]
        try:
            answer = True, self._call()
        except BaseException as error:
            answer = False, error
        with os.fdopen(into, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)

    def result(self) -> T:
        """What the call returned; raises what it raised.

        Raises:
            InfrastructureError: the process was killed, as where memory is short.
        """
        with os.fdopen(self._from, "rb") as pipe:
            self._from = -1
            pickled = pipe.read()
        if not pickled:
            raise InfrastructureError("a process that was to write files was killed; try again")
        worked, value = pickle.loads(pickled)
        if not worked:
            raise value
        returned: T = value
        return returned

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._from >= 0:  # nobody waits for it any more
            os.close(self._from)
            os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
