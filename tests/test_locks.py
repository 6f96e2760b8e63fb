"""A lock is the world of its cell's time; it is read back whole or refused in one line.

Nothing is resolved here: a stand-in answers for the resolver.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from support import stand_in_cell

from mcore_compat import expand, locks, matrix, releases
from mcore_compat.cells import Cell
from mcore_compat.errors import InfrastructureError, LockError
from mcore_compat.locks import Lock, Pin, Unresolvable
from mcore_compat.matrix import Matrix, SourceOnly, Undeclared
from mcore_compat.proc import Completed
from mcore_compat.releases import Release, Releases

UV = Path("a-stand-in-for-uv")
NAME = "compat-0.16-modelopt0.41"
WHERE = f"{NAME}.txt"


def entry(name: str, version: str, *digits: str) -> str:
    """A package of a lock, as the resolver writes it; each hash is one digit, 64 times."""
    lines = [f"{name}=={version}", *(f"    --hash=sha256:{digit * 64}" for digit in digits)]
    return " \\\n".join(lines) + "\n"


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

    def __call__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        grace: float = 0.0,
    ) -> Completed:
        words = tuple(os.fspath(a) for a in argv)
        answer = self.answers[len(self.argvs)]
        self.argvs.append(words)
        self.limits.append(timeout)
        self.files.append(
            {
                "requirements": Path(words[3]).read_text(),
                "constraints": Path(after(words, "--constraints")).read_text(),
                "config": Path(after(words, "--config-file")).read_text(),
            }
        )
        if isinstance(answer, Completed):
            return answer
        Path(after(words, "--output-file")).write_text(answer)
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


@pytest.fixture(scope="module")
def known() -> Releases:
    return releases.load()


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return matrix.load()


@pytest.fixture(scope="module")
def cell(declared: Matrix, known: Releases) -> Cell:
    return expand.named(NAME, declared, known)


def resolved(run: StandIn, declared: Matrix, known: Releases | None = None) -> Lock | Unresolvable:
    """What becomes of the stand-in cell."""
    return locks.make(stand_in_cell(), declared, known or world(), uv=UV, run=run)


def refused_infrastructure(output: Completed, declared: Matrix) -> str:
    with pytest.raises(InfrastructureError) as caught:
        resolved(StandIn([output]), declared)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_real_cell_is_resolved_for_its_own_world(
    cell: Cell, declared: Matrix, known: Releases
) -> None:
    run = StandIn([BODY])
    made = locks.make(cell, declared, known, uv=UV, run=run)
    assert isinstance(made, Lock)
    (words,) = run.argvs
    assert words[:3] == (str(UV), "pip", "compile")
    assert after(words, "--exclude-newer") == f"{made.exclude_newer}T00:00:00Z"
    assert after(words, "--python-platform") == locks.PLATFORM
    assert after(words, "--python-version") == cell.python
    assert after(words, "--only-binary") == ":all:"
    assert {"--no-header", "--no-annotate", "--generate-hashes"} < set(words)
    assert {"--no-emit-index-url", "--no-emit-find-links"} < set(words)
    assert run.limits == [locks.RESOLVE_LIMIT_S]
    (files,) = run.files
    assert files["requirements"].splitlines() == list(locks.requirements(cell, declared))
    bounds = expand.bounds_of_extras(cell, known)
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
    locks.make(stand_in_cell(), declared, world(), uv=UV, run=run, offline=offline)
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
MCORE_RANGES = ('einops~=0.8; extra == "dev"', 'transformers<4.50; extra == "dev"')
MODELOPT_RANGES = ('peft>=0.17; extra == "hf"', 'transformers>=4.53; extra == "hf"')


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
    assert locks.readable("error: " + "word " * 1000) == ("word " * 1000)[:600]


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


def written(body: str, sources: Sequence[str] = ("mamba-ssm", "transformer-engine-torch")) -> str:
    """A lock whose head fits its body, whatever that is."""
    return locks.head(stand_in_cell(), "2026-01-22", sources, extras="kept to", body=body) + body


def refused(text: str) -> str:
    """The error for a text; it is one line with the file's name and the way out."""
    with pytest.raises(LockError) as caught:
        locks.parse(text, WHERE)
    assert WHERE in str(caught.value)
    assert f"nox -s lock -- {NAME}" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(line: str) -> str:
    """A lock that lacks the line of its head that starts so."""
    return re.sub(rf"^# {line}.*\n", "", written(BODY), flags=re.MULTILINE)


FIRST = written("").count("\n") + 1
NEXT = written(BODY).count("\n") + 1
"""The numbers of the lines after the head, and after the body."""


def test_a_lock_whose_head_fits_is_read() -> None:
    found = locks.parse(written(BODY), WHERE)
    assert (found.pins, found.source_only) == (PINS, SOURCES)
    assert found.exclude_newer == "2026-01-22"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a lock of ours"),
        ("\n", "not a lock of ours"),
        (BODY, "not a lock of ours"),
        ("# a comment\n" + written(BODY), "not a lock of ours"),
        ("\x00\x01\x7f\ufffd\ufffd", "not a lock of ours"),
        (without("Lock of"), "not a lock of ours"),
        (without("pins"), "not a lock of ours"),
        (without("exclude-newer"), "not a lock of ours"),
        (without("source-only"), "not a lock of ours"),
        (without("sha256 of what follows"), "cut short or was edited by hand"),
        (written(BODY).replace("einops==0.8.1", "einops==0.8.0"), "edited by hand"),
        (written(BODY) + entry("numpy", "2.0", "1"), "edited by hand"),
        (written(BODY)[:-30], "cut short"),
        (written(BODY + "numpy==2.0\n"), f":{NEXT}: no pin with a hash: 'numpy==2.0'"),
        (written("numpy==2.0 \\\n    --hash=md5:ab\n"), f":{FIRST}: no pin with a hash"),
        (written(entry("numpy", "2.0", "1").replace("==", ">=")), f":{FIRST}: no pin with a hash"),
        (written(BODY + "numpy==2.0 \\\n"), f":{NEXT}: cut short"),
        (written(BODY + entry("numpy", "2", "1", "2")[:90] + " \\\n"), f":{NEXT}: cut short"),
        (written("\x00\x01\ufffd\n"), f":{FIRST}: no pin with a hash"),
    ],
)
def test_a_corrupt_lock_is_one_line_with_the_way_out(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x80" * 50, b"\x1f\x8b\x08\x00", b"# \xff"])
def test_a_file_of_garbage_is_no_lock(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / WHERE
    path.write_bytes(content)
    with pytest.raises(LockError, match=rf"^{re.escape(WHERE)} is not a lock"):
        locks.read(path)


def test_a_lock_that_is_not_there_is_not_corrupt(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        locks.read(tmp_path / WHERE)


def every_pin(lock: Lock) -> tuple[Pin, ...]:
    return tuple(sorted((*lock.pins, *lock.source_only), key=lambda p: p.name))


def parsed(text: str) -> Lock | str:
    """The lock, or what the error says; no other exception is let through as either."""
    try:
        return locks.parse(text, WHERE)
    except LockError as error:
        return str(error)


WHOLE = written(BODY)


@settings(deadline=None)
@given(st.integers(0, len(WHOLE)))
def test_a_lock_that_is_cut_anywhere_is_refused_or_a_prefix(length: int) -> None:
    found = parsed(WHOLE[:length])
    assert isinstance(found, Lock) == (length == len(WHOLE))
    if isinstance(found, Lock):
        pins = every_pin(found)
        assert pins == every_pin(locks.parse(WHOLE, WHERE))[: len(pins)]
    else:
        assert WHERE in found


@settings(deadline=None)
@given(
    st.integers(len(WHOLE) - len(BODY), len(WHOLE) - 1), st.characters(exclude_categories=["Cs"])
)
def test_no_character_of_what_follows_the_head_can_change_unseen(place: int, other: str) -> None:
    changed = WHOLE[:place] + other + WHOLE[place + 1 :]
    if changed != WHOLE:
        refused(changed)


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ab=1 \\\n\r#-:\x00\u2028") | st.binary())
def test_no_text_breaks_the_reading_of_a_lock(found: str | bytes) -> None:
    text = found if isinstance(found, str) else found.decode("utf-8", "replace")
    refused(text)
    for body in (text, BODY + text):
        lock = parsed(written(body))
        if isinstance(lock, Lock):
            assert all(p.name and p.version and p.hashes for p in every_pin(lock))
        else:
            assert WHERE in lock
            assert "\n" not in lock


def test_what_comes_from_the_index_leaves_out_what_is_built() -> None:
    lock = locks.parse(written(BODY), WHERE)
    text = locks.binary_part(lock)
    assert locks.parse(written(text), WHERE).pins == PINS
    assert "mamba-ssm" not in text
    assert text.count("\n") == len(PINS)


def test_what_is_source_only_is_what_the_head_says() -> None:
    found = locks.parse(written(BODY, ["torch"]), WHERE)
    assert [p.name for p in found.source_only] == ["torch"]
    assert locks.parse(written(BODY, []), WHERE).source_only == ()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('einops~=0.8; extra == "dev"', "einops~=0.8"),
        ("einops~=0.8; extra == 'dev'", "einops~=0.8"),
        ('Flash_Attn[x]<3,>=2; extra == "dev"', "flash-attn<3,>=2"),
        ('einops~=0.8; sys_platform == "linux" and extra == "dev"', "einops~=0.8"),
        ('einops~=0.8; python_version >= "3.12" and extra == "dev"', "einops~=0.8"),
        ('einops~=0.8; python_full_version < "3.13" and extra == "dev"', "einops~=0.8"),
        ('a>1; (os_name == "nt" and extra == "x") or extra == "y"', "a>1"),
        ('einops~=0.8; platform_system == "Windows" and extra == "dev"', None),
        ('einops~=0.8; sys_platform == "darwin" and extra == "dev"', None),
        ('einops~=0.8; platform_machine == "aarch64" and extra == "dev"', None),
        ('einops~=0.8; python_version < "3.12" and extra == "dev"', None),
        ('einops~=0.8; implementation_name == "pypy" and extra == "dev"', None),
        ('einops; extra == "dev"', None),
        ("einops~=0.8", None),
        ('einops~=0.8; sys_platform == "linux"', None),
        ('torch>=2.6; extra == "dev"', None),
        ('triton>=3; extra == "dev"', None),
        ('Megatron_Core>=0.12; extra == "dev"', None),
        ('nvidia-modelopt[torch]>=0.33; extra == "dev"', None),
        ('transformer-engine[pytorch]<2.12; extra == "dev"', None),
        ('transformer_engine_torch<2.12; extra == "dev"', None),
    ],
)
def test_a_range_of_an_extra_holds_where_it_is_for_the_cell(text: str, kept: str | None) -> None:
    expected = (kept,) if kept else ()
    assert expand.bounds_of_extras(stand_in_cell(), world([text], [])) == {
        "megatron-core": expected,
        "nvidia-modelopt": (),
    }
    assert expand.bounds_of_extras(stand_in_cell(), world([], [text])) == {
        "megatron-core": (),
        "nvidia-modelopt": expected,
    }


def test_ranges_for_another_python_are_those_of_its_cell() -> None:
    of_old = dataclasses.replace(stand_in_cell(), python="3.10")
    known = world(['a<2; python_version < "3.11" and extra == "x"', 'b>1; extra == "x"'])
    assert expand.bounds_of_extras(of_old, known)["megatron-core"] == ("a<2", "b>1")
    assert expand.bounds_of_extras(stand_in_cell(), known)["megatron-core"] == ("b>1",)


def test_a_range_that_several_extras_declare_is_there_once_and_all_are_sorted() -> None:
    texts = ['b>1; extra == "x"', 'b>1; extra == "y"', 'a<2; extra == "x"', 'b<9; extra == "y"']
    assert expand.bounds_of_extras(stand_in_cell(), world(texts))["megatron-core"] == (
        "a<2",
        "b<9",
        "b>1",
    )


@pytest.fixture
def bare() -> Matrix:
    """A stand-in for a matrix that declares little."""
    return Matrix(
        mcore_series=(),
        modelopt_series=(),
        stacks={},
        source_only=(
            SourceOnly(
                package="transformer-engine-torch", when=SpecifierSet("<2"), requires=("old",)
            ),
            SourceOnly(
                package="transformer-engine-torch", when=SpecifierSet(">=2"), requires=("new",)
            ),
            SourceOnly(package="mamba-ssm", when=SpecifierSet("<1"), requires=("torch",)),
        ),
        undeclared=(
            Undeclared(
                of="torch",
                when=SpecifierSet("<2.10"),
                requires=("setuptools", "numpy<3"),
                imported_by="a stand-in",
                reason="a stand-in",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("version", "extra"),
    [("0.21.0", "[torch]"), ("0.31.0", "[torch]"), ("0.33.0", ""), ("0.41.0", "")],
)
def test_the_extra_of_modelopt_is_asked_for_while_there_was_one(
    version: str, extra: str, bare: Matrix
) -> None:
    wanted = locks.requirements(stand_in_cell(modelopt=version), bare)
    assert [w for w in wanted if "modelopt" in w] == [f"nvidia-modelopt{extra}=={version}"]


def test_every_axis_and_what_is_undeclared_is_asked_for(bare: Matrix) -> None:
    cell = dataclasses.replace(stand_in_cell(), cuda=13)
    wanted = (
        "megatron-core==0.16.1",
        "numpy<3",
        "nvidia-modelopt==0.41.0",
        "setuptools",
        "torch==2.9.1",
        "transformer-engine-cu13==2.11.0",
        "transformer-engine-torch==2.11.0",
        "transformer-engine==2.11.0",
    )
    assert locks.requirements(cell, bare) == wanted
    newer = locks.requirements(dataclasses.replace(cell, torch="2.10.0"), bare)
    assert not {"numpy<3", "setuptools"} & set(newer)


@pytest.mark.parametrize(("te", "said"), [("1.13.0", "old"), ("2.11.0", "new")])
def test_a_source_is_described_as_of_its_version(te: str, said: str, bare: Matrix) -> None:
    text = locks.settings(dataclasses.replace(stand_in_cell(), te=te), bare)
    assert text.splitlines() == [
        "[[dependency-metadata]]",
        'name = "transformer-engine-torch"',
        f'requires-dist = ["{said}"]',
        "[[dependency-metadata]]",
        'name = "mamba-ssm"',
        'requires-dist = ["torch"]',
    ]


def test_what_the_resolver_is_asked_has_one_digest(declared: Matrix, bare: Matrix) -> None:
    cell, known = stand_in_cell(), world(MCORE_RANGES, MODELOPT_RANGES)
    first = locks.asked_for(cell, declared, known)
    assert locks.asked_for(cell, declared, world(MCORE_RANGES[::-1], MODELOPT_RANGES)) == first
    changed = [
        locks.asked_for(dataclasses.replace(cell, python="3.11"), declared, known),
        locks.asked_for(dataclasses.replace(cell, cuda=13), declared, known),
        locks.asked_for(cell, bare, known),
        locks.asked_for(cell, declared, world(MCORE_RANGES[:1], MODELOPT_RANGES)),
        locks.asked_for(
            cell, declared, world(MCORE_RANGES, MODELOPT_RANGES, torch="2026-02-01T00:00:00Z")
        ),
    ]
    assert len({first, *changed}) == len(changed) + 1
