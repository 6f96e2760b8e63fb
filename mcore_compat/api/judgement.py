"""Whether a use in code fits one release, or why not. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mcore_compat.api import calls
from mcore_compat.api.definitions import FunctionParameter
from mcore_compat.api.resolution import Found, InterfaceView, Missing, parameters
from mcore_compat.api.uses import CALL, IMPORT, Use

MISSING = "missing"
MODULE_MISSING = "module missing"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a use does not fit a release: its `kind` (`missing`, or one of `calls`), the `path` of
    the name, and the parameter."""

    kind: str
    path: str
    name: str = ""


def problems(use: Use, view: InterfaceView) -> tuple[Problem, ...]:
    """The problems of a use; empty if it fits, or that is unknown."""
    every = [_of_target(use, at, view) for at in range(len(use.targets))]
    return () if any(not each for each in every) else every[0]


def _of_target(use: Use, at: int, view: InterfaceView) -> tuple[Problem, ...]:
    resolved = view.resolve(use.targets[at])
    if isinstance(resolved, Missing):
        # The name of a call was already checked as an import or attribute.
        if use.kind == CALL and not use.bound:
            return ()
        module = use.kind == IMPORT and not use.targets[at].names
        if (
            use.kind == IMPORT
            and not module
            and not _is_below(resolved.path, use.targets[at].module)
        ):
            return ()  # the missing module is reported at its import
        return (Problem(kind=MODULE_MISSING if module else MISSING, path=resolved.path),)
    if use.call is None:
        return ()
    refused = []
    for found in resolved:
        taken = signature(found, view, bound=use.bound)
        if taken is None:
            return ()
        refused.append(
            [
                Problem(kind=misfit.kind, path=found.path, name=misfit.name)
                for misfit in calls.misfits(use.call, taken)
            ]
        )
    return () if not all(refused) else tuple(refused[0])


def _is_below(path: str, module: str) -> bool:
    return path.startswith(f"{module}.")


def signature(
    found: Found, view: InterfaceView, *, bound: bool
) -> tuple[FunctionParameter, ...] | None:
    """The parameters that a call must fit; None if unknown."""
    if found.definition is None:
        return None
    if found.definition.word == "class":
        made = view.constructor(found)
        return None if made.open else parameters(made, bound=True)
    return parameters(found, bound=bound)
