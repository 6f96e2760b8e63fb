"""A stand-in for the resolver and for the facts it works on, shared by the tests of locks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from index_support import StandIn as StandInIndex
from index_support import file
from support import stand_in_cell

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Release, Releases
from mcore_compat.resolve import resolution
from mcore_compat.resolve.locks import Lock, Pin
from mcore_compat.resolve.resolution import Unresolvable

UV = Path("a-stand-in-for-uv")
NAME = "compat-0.16-modelopt0.41"
WHERE = f"{NAME}.txt"


def entry(name: str, version: str, *digits: str) -> str:
    """A package of a lock, as the resolver writes it; each hash is one digit, 64 times."""
    lines = [f"{name}=={version}", *(f"    --hash=sha256:{digit * 64}" for digit in digits)]
    return " \\\n".join(lines) + "\n"


def pylock(body: str) -> str:
    """The same packages as the resolver writes them: a wheel for each hash."""
    text = 'lock-version = "1.0"\npackages = []\n' if not body.strip() else 'lock-version = "1.0"\n'
    for line in body.replace("\\\n", " ").splitlines():
        pin, *hashes = line.split()
        name, _, version = pin.partition("==")
        text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [\n'
        for digest in hashes:
            algorithm, _, digits = digest.removeprefix("--hash=").partition(":")
            text += f'  {{ url = "file:///x", hashes = {{ {algorithm} = "{digits}" }} }},\n'
        text += "]\n"
    return text


BODY = (
    entry("einops", "0.8.1", "a", "b")
    + entry("mamba-ssm", "2.2.4", "c")
    + entry("torch", "2.9.1", "d", "e", "f")
    + entry("transformer-engine-torch", "2.11.0", "0")
)
PINS = (
    Pin(name="einops", version="0.8.1", hashes=("a" * 64, "b" * 64)),
    Pin(name="torch", version="2.9.1", hashes=("d" * 64, "e" * 64, "f" * 64)),
)
SOURCES = (
    Pin(name="mamba-ssm", version="2.2.4", hashes=("c" * 64,)),
    Pin(name="transformer-engine-torch", version="2.11.0", hashes=("0" * 64,)),
)


def ended(output: str = "", returncode: int = 1, *, timed_out: bool = False) -> Completed:
    """How a stand-in's process ends; badly, unless it is told otherwise."""
    return Completed(
        argv=(), returncode=returncode, output=output, seconds=0.0, timed_out=timed_out
    )


@dataclass
class StandIn:
    """Stands in for the resolver: gives its answers in turn, text being what it writes.

    `files` has, for each call, what lay in the files that it was given.
    """

    answers: Sequence[str | Completed]
    argvs: list[tuple[str, ...]] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def __call__(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Completed:
        words = tuple(os.fspath(a) for a in argv)
        answer = self.answers[len(self.argvs)]
        self.argvs.append(words)
        self.limits.append(options["timeout"])
        self.files.append(
            {
                "requirements": Path(words[3]).read_text(),
                "constraints": Path(after(words, "--constraints")).read_text(),
                "config": Path(after(words, "--config-file")).read_text(),
            }
        )
        if isinstance(answer, Completed):
            return answer
        Path(after(words, "--output-file")).write_text(pylock(answer))
        return ended(returncode=0)


def after(words: Sequence[str], flag: str) -> str:
    """The word after a flag that is there once."""
    assert words.count(flag) == 1
    return words[words.index(flag) + 1]


def world(mcore: Sequence[str] = (), modelopt: Sequence[str] = (), **uploads: str) -> Releases:
    """Stand-ins for the releases that the stand-in cell pins."""
    cell = stand_in_cell()
    requires = {"megatron-core": tuple(mcore), "nvidia-modelopt": tuple(modelopt)}
    return Releases(
        {
            package: (
                Release(
                    package=package,
                    version=version,
                    uploaded=uploads.get(package.split("-")[0], "2026-01-01T00:00:00Z"),
                    requires=requires.get(package, ()),
                ),
            )
            for package, version in cell.pins.items()
            if package != "python"
        }
    )


def listing(known: Releases) -> StandInIndex:
    """An index that lists what is known."""
    return StandInIndex(
        {
            name: [file(f"{name}-{r.version}.tar.gz", r.version) for r in known.of(name)]
            for name in known.by_package
        }
    )


def resolved(
    run: StandIn,
    declared: Matrix,
    known: Releases | None = None,
    index: StandInIndex | None = None,
) -> Lock | Unresolvable:
    """What becomes of the stand-in cell; the index lists what is known, or is `index`."""
    facts = known or world()
    asked = index or listing(facts)
    return resolution.make(stand_in_cell(), declared, facts, uv=UV, run=run, client=lambda: asked)


def refused_infrastructure(output: Completed, declared: Matrix) -> str:
    with pytest.raises(InfrastructureError) as caught:
        resolved(StandIn([output]), declared)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MCORE_RANGES = ('einops~=0.8; extra == "dev"', 'transformers<4.50; extra == "dev"')
MODELOPT_RANGES = ('peft>=0.17; extra == "hf"', 'transformers>=4.53; extra == "hf"')
