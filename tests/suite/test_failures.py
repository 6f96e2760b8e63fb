"""An import's failure is told by its root, whatever packages say on top of it."""

from __future__ import annotations

import pytest

from suite import failures


def caught(source: str) -> BaseException:
    try:
        exec(compile(source, "a_package.py", "exec"), {})
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


FROM = """
try:
    from math import nothing
except ImportError as error:
    raise ImportError("install the extra") {how}
"""


@pytest.mark.parametrize("how", ["from error", ""])
def test_an_import_error_raised_again_is_told_by_its_root(how: str) -> None:
    error = caught(FROM.format(how=how))
    told = failures.describe(error, None)
    assert told["message"].startswith("cannot import name 'nothing' from 'math'")
    assert "install the extra" in told["traceback"]
    assert failures.root(error) is not error


def test_equal_causes_are_equal_whatever_was_said_on_top() -> None:
    one, other = (
        failures.describe(caught(FROM.format(how=how)), None) for how in ("from error", "")
    )
    assert (one["type"], one["message"]) == (other["type"], other["message"])
    assert one["frames"] == other["frames"]


@pytest.mark.parametrize(
    "source",
    [
        FROM.format(how="from None"),
        'raise ImportError("alone")',
        'try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ImportError("other") from e',
        "try:\n    import nothing_there\nexcept ImportError as e:\n    raise ValueError() from e",
    ],
)
def test_what_is_no_import_error_raised_again_is_its_own_root(source: str) -> None:
    error = caught(source)
    assert failures.root(error) is error


def test_a_chain_that_bites_its_own_tail_ends() -> None:
    error = ImportError("a")
    other = ImportError("b")
    error.__cause__, other.__cause__ = other, error
    assert failures.root(error) is other
