"""A lock is the world of its cell's time, in the resolver's answer or its refusal.

Nothing is resolved here: a stand-in answers for the resolver.
"""

import re
from pathlib import Path

import pytest
import snapshot
from resolver_support import (
    BODY,
    MCORE_RANGES,
    MODELOPT_RANGES,
    NAME,
    PINS,
    SOURCES,
    UV,
    WHERE,
    StandIn,
    after,
    ended,
    entry,
    refused_infrastructure,
    resolved,
    world,
)
from support import stand_in_cell

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.base.processes import Completed
from mcore_compat.core import combinations
from mcore_compat.core.cells import Cell
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.resolve import locks, resolution
from mcore_compat.resolve.locks import Lock
from mcore_compat.resolve.resolution import Unresolvable


@pytest.fixture(scope="module")
def known() -> Releases:
    return snapshot.releases()


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return snapshot.matrix()


@pytest.fixture(scope="module")
def cell(declared: Matrix, known: Releases) -> Cell:
    return combinations.named(NAME, declared, known)


def test_a_real_cell_is_resolved_for_its_own_world(
    cell: Cell, declared: Matrix, known: Releases
) -> None:
    run = StandIn([BODY])
    made = resolution.make(cell, declared, known, uv=UV, run=run)
    assert isinstance(made, Lock)
    (words,) = run.argvs
    assert words[:3] == (str(UV), "pip", "compile")
    assert after(words, "--exclude-newer") == f"{made.exclude_newer}T00:00:00Z"
    assert after(words, "--python-platform") == locks.PLATFORM
    assert after(words, "--python-version") == cell.python
    assert after(words, "--only-binary") == ":all:"
    assert {"--no-header", "--no-annotate", "--no-emit-index-url"} < set(words)
    assert {"--no-emit-index-url", "--no-emit-find-links"} < set(words)
    assert run.limits == [resolution.RESOLVE_LIMIT_S]
    (files,) = run.files
    assert files["requirements"].splitlines() == list(
        resolution.requirements(cell, declared, known)
    )
    bounds = combinations.bounds_of_extras(cell, known)
    assert any(text.startswith("transformers") for text in bounds["nvidia-modelopt"])
    assert set(files["constraints"].splitlines()) == {t for b in bounds.values() for t in b}
    assert made.axes == {**cell.pins, "cuda": str(cell.cuda)}


@pytest.mark.parametrize("newest", ["megatron", "nvidia", "transformer", "torch"])
@pytest.mark.parametrize(
    ("uploaded", "date"),
    [("2026-01-31T23:59:59Z", "2026-02-21"), ("2026-02-08T00:00:00Z", "2026-03-01")],
)
def test_the_world_stands_still_a_while_after_the_newest_pin(
    newest: str, uploaded: str, date: str, declared: Matrix
) -> None:
    run = StandIn([BODY])
    made = resolved(run, declared, world(**{newest: uploaded}))
    assert isinstance(made, Lock)
    assert made.exclude_newer == date
    assert after(run.argvs[0], "--exclude-newer") == f"{date}T00:00:00Z"


def test_source_only_packages_are_described_and_never_built(declared: Matrix) -> None:
    run = StandIn([BODY])
    resolved(run, declared)
    words = run.argvs[0]
    named = [words[i + 1] for i, word in enumerate(words) if word == "--no-binary"]
    assert named == ["causal-conv1d", "mamba-ssm", "transformer-engine-torch"]
    assert set(re.findall(r'name = "(.*)"', run.files[0]["config"])) == set(named)
    assert "--no-build-isolation" in words


@pytest.mark.parametrize("offline", [True, False])
def test_the_resolver_is_offline_only_when_told(offline: bool, declared: Matrix) -> None:
    run = StandIn([BODY])
    resolution.make(stand_in_cell(), declared, world(), uv=UV, run=run, offline=offline)
    assert ("--offline" in run.argvs[0]) is offline


def test_nothing_is_left_of_a_resolution(declared: Matrix) -> None:
    run = StandIn([BODY])
    resolved(run, declared)
    assert not Path(after(run.argvs[0], "--output-file")).parent.exists()


def test_a_made_lock_is_read_back(declared: Matrix, tmp_path: Path) -> None:
    made = resolved(StandIn([BODY]), declared)
    assert isinstance(made, Lock)
    assert made.cell == NAME
    assert made.axes == {
        "megatron-core": "0.16.1",
        "nvidia-modelopt": "0.41.0",
        "transformer-engine": "2.11.0",
        "torch": "2.9.1",
        "python": "3.12",
        "cuda": "12",
    }
    assert made.pins == PINS
    assert made.source_only == SOURCES
    assert [made.version(n) for n in ("torch", "mamba-ssm", "numpy")] == ["2.9.1", "2.2.4", None]
    path = tmp_path / WHERE
    path.write_text(made.text)
    assert locks.read(path) == made


def test_the_same_answer_is_the_same_lock_and_another_is_not(declared: Matrix) -> None:
    one, same, other = (
        resolved(StandIn([body]), declared) for body in (BODY, BODY, entry("torch", "2.9.1", "1"))
    )
    assert isinstance(one, Lock)
    assert isinstance(same, Lock)
    assert isinstance(other, Lock)
    assert (one.text, one.digest) == (same.text, same.digest)
    assert one.digest != other.digest


NO = "error: No solution found when resolving dependencies\n  cause: Because {} is no more.\n"


def said_of_extras(lock: Lock | Unresolvable) -> str:
    assert isinstance(lock, Lock)
    (line,) = [x for x in lock.text.splitlines() if x.startswith("# ranges declared in extras: ")]
    return line.partition(": ")[2]


@pytest.mark.parametrize(
    ("refusals", "kept", "said"),
    [
        (0, ["einops~=0.8", "peft>=0.17", "transformers<4.50", "transformers>=4.53"], "kept to"),
        (1, ["einops~=0.8", "peft>=0.17"], "kept to, but for transformers"),
        (2, [], "not kept to: they contradict one another"),
    ],
)
def test_ranges_of_extras_are_kept_to_as_far_as_they_can_be(
    refusals: int, kept: list[str], said: str, declared: Matrix
) -> None:
    run = StandIn([*(ended(NO.format(n)) for n in range(refusals)), BODY])
    made = resolved(run, declared, world(MCORE_RANGES, MODELOPT_RANGES))
    assert said_of_extras(made) == said
    assert len(run.files) == refusals + 1
    assert run.files[-1]["constraints"].splitlines() == kept
    assert len({f["requirements"] for f in run.files}) == 1


def test_ranges_that_nobody_disputes_are_kept_to_or_not(declared: Matrix) -> None:
    run = StandIn([ended(NO.format("it")), BODY])
    made = resolved(run, declared, world(MCORE_RANGES[:1], MODELOPT_RANGES[:1]))
    assert said_of_extras(made) == "not kept to: they contradict one another"
    assert [f["constraints"].splitlines() for f in run.files] == [
        ["einops~=0.8", "peft>=0.17"],
        [],
    ]


def test_every_disputed_package_is_named(declared: Matrix) -> None:
    run = StandIn([ended(NO.format("it")), BODY])
    ranges = ('b>1; extra == "x"', 'a>1; extra == "x"', 'c>1; extra == "x"')
    made = resolved(run, declared, world(ranges, [r.replace(">1", "<9") for r in ranges[:2]]))
    assert said_of_extras(made) == "kept to, but for a, b"
    assert run.files[-1]["constraints"] == "c>1\n"


def test_a_cell_is_unresolvable_once_no_choice_is_left(declared: Matrix) -> None:
    run = StandIn([ended(NO.format(n)) for n in ("one", "two", "three")])
    made = resolved(run, declared, world(MCORE_RANGES, MODELOPT_RANGES))
    assert made == Unresolvable(reason="Because three is no more.")
    assert len(run.argvs) == 3


def test_without_ranges_there_is_one_choice(declared: Matrix) -> None:
    run = StandIn([ended(NO.format("it"))])
    assert resolved(run, declared) == Unresolvable(reason="Because it is no more.")
    assert run.files[0]["constraints"] == ""


DRAWN = """\
  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because torch==2.9.1 depends on
      triton==3.5.1 and a==1 depends on triton<3, we can conclude that a==1 and
      torch==2.9.1 are incompatible.
      And because you require both, we can conclude that your
      requirements are unsatisfiable.

      hint: Pre-releases are available for triton
"""
PLAIN = """\
error: No solution found when resolving dependencies
  cause: Because torch==2.9.1 depends on triton==3.5.1 and a==1 depends on triton<3, we can \
conclude that a==1 and torch==2.9.1 are incompatible.
      And because you require both, we can conclude that your requirements are unsatisfiable.

hint: Pre-releases are available for triton
"""


@pytest.mark.parametrize("output", [DRAWN, PLAIN, "warning: something else\n" + DRAWN])
def test_a_refusal_is_one_paragraph_in_the_resolvers_words(output: str, declared: Matrix) -> None:
    made = resolved(StandIn([ended(output)]), declared)
    assert made == Unresolvable(
        reason="Because torch==2.9.1 depends on triton==3.5.1 and a==1 depends on triton<3, we "
        "can conclude that a==1 and torch==2.9.1 are incompatible. And because you require both, "
        "we can conclude that your requirements are unsatisfiable."
    )


def test_a_long_refusal_is_cut() -> None:
    assert resolution.readable("error: " + "word " * 1000) == ("word " * 1000)[:600]


FETCH = """\
error: Failed to fetch: a file of the index
  cause: error sending request for url
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
"""


@pytest.mark.parametrize(
    "output",
    [
        FETCH,
        "error: Failed to fetch: a file of the index\n  cause: HTTP status server error (503)",
        "error: Could not connect, are you offline?",
        "  cause: dns error: failed to lookup address information",
        "  cause: Connection reset by peer (os error 104)",
        "  cause: operation timed out",
        "  cause: Network is unreachable (os error 101)",
        "  cause: Temporary failure in name resolution",
    ],
)
def test_an_index_that_does_not_answer_is_no_verdict(output: str, declared: Matrix) -> None:
    assert "index" in refused_infrastructure(ended(output, 2), declared)


def test_a_refusal_that_speaks_of_the_network_is_a_refusal(declared: Matrix) -> None:
    made = resolved(StandIn([ended(NO.format("the package timed out"))]), declared)
    assert made == Unresolvable(reason="Because the package timed out is no more.")


@pytest.mark.parametrize(
    "output",
    [
        "error: Failed to inspect Python\n  cause: failed to write to file `x`: "
        "No space left on device (os error 28)",
        "error: failed to write to file `x`: Disk quota exceeded (os error 122)",
    ],
)
def test_a_full_disk_is_no_verdict_and_is_named(output: str, declared: Matrix) -> None:
    assert "disk" in refused_infrastructure(ended(output, 2), declared)


@pytest.mark.parametrize("output", ["", NO.format("it"), FETCH])
def test_a_resolver_that_takes_too_long_is_no_verdict(output: str, declared: Matrix) -> None:
    assert "300 s" in refused_infrastructure(ended(output, -9, timed_out=True), declared)


def test_trouble_on_a_later_choice_is_no_verdict_either(declared: Matrix) -> None:
    run = StandIn([ended(NO.format("it")), ended(FETCH, 2), BODY])
    with pytest.raises(InfrastructureError):
        resolved(run, declared, world(MCORE_RANGES, MODELOPT_RANGES))
    assert len(run.argvs) == 2


@pytest.mark.parametrize(
    "done",
    [
        ended("", -9),
        ended("error: unexpected argument '--exclude-newer' found", 2),
        ended(
            "error: No solution found when resolving dependencies\n"
            "  cause: Because a was not found in the cache and you require a, we can "
            "conclude that your requirements are unsatisfiable.\n\n"
            "hint: Packages were unavailable because the network was disabled.",
        ),
    ],
    ids=["killed", "usage", "offline"],
)
def test_what_is_no_answer_of_the_index_is_no_verdict(done: Completed, declared: Matrix) -> None:
    refused_infrastructure(done, declared)


def test_only_files_that_the_platform_takes_are_hashed_and_no_address_is_kept() -> None:
    text = """
[[packages]]
name = "torch"
version = "2.9.1"
wheels = [{ url = "https://index.invalid/torch.whl", hashes = { sha256 = "bb" } }]

[[packages]]
name = "mamba-ssm"
version = "2.2.4"
sdist = { url = "https://index.invalid/mamba.tar.gz", hashes = { sha256 = "aa" } }
"""
    body = resolution.body_of(text)
    assert body == (
        "mamba-ssm==2.2.4 \\\n    --hash=sha256:aa\ntorch==2.9.1 \\\n    --hash=sha256:bb\n"
    )
