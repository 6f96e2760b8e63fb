"""A refusal of the resolver is one only where the index itself says the same."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import snapshot
from hostile_index import Answer, Liar, Lie, empty, hangs, lying, nothing, page, portal, redirected
from index_support import MISMATCH, day, file
from index_support import StandIn as StandInIndex
from minimatrix import packages
from minimatrix.index import Index
from minimatrix.project import Project, make
from packaging.version import Version
from resolver_support import BODY, NAME, StandIn, ended, listing, resolved, world

from mcore_compat.base.errors import InfrastructureError
from mcore_compat.core.matrix import Matrix
from mcore_compat.core.releases import Releases
from mcore_compat.resolve import refusal, resolution
from mcore_compat.resolve.locks import Lock
from mcore_compat.resolve.refusal import Claim
from mcore_compat.resolve.resolution import Unresolvable


@pytest.fixture(scope="module")
def declared() -> Matrix:
    return snapshot.matrix()


def says(text: str) -> str:
    return f"error: No solution found when resolving dependencies\n  cause: Because {text}.\n"


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("dep was not found in the package registry and", [Claim(package="dep", absent="")]),
        ("there are no versions of dep and all", [Claim(package="dep", absent="")]),
        ("there is no version of dep==9 and you", [Claim(package="dep", absent="==9")]),
        ("there is no version of a-b[torch]==9, we", [Claim(package="a-b", absent="==9")]),
        ("only dep<=2.1 is available and", [Claim(package="dep", only=("<=2.1",))]),
        (
            "all versions of a depend on dep>=2 and only the following versions of dep are "
            "available:\n             dep<2\n             dep>=2.1\n         we can conclude",
            [Claim(package="dep", only=("<2", ">=2.1"))],
        ),
        ("torch==2.9.1 depends on triton==3.5.1 and a depends on triton<3", []),
    ],
)
def test_what_a_refusal_says_is_not_there_is_read(text: str, claims: list[Claim]) -> None:
    assert list(refusal.claims(says(text))) == claims


def test_a_claim_denies_versions() -> None:
    only = Claim(package="dep", only=("<2", ">=2.1"))
    assert [only.denies(Version(v)) for v in ("1", "2", "2.1")] == [False, True, False]
    assert Claim(package="dep", absent="").denies(Version("1"))
    assert not Claim(package="dep", absent="==9").denies(Version("1"))


def test_what_the_index_lists_was_not_refused_by_it_and_the_resolver_asks_anew(
    declared: Matrix,
) -> None:
    run = StandIn([ended(says("there is no version of torch==2.9.1 and")), BODY])
    assert isinstance(resolved(run, declared), Lock)
    assert "--refresh" not in run.argvs[0]
    assert "--refresh" in run.argvs[1]
    again = StandIn([ended(says("there is no version of torch==2.9.1 and"))] * 2)
    with pytest.raises(InfrastructureError, match=rf"{NAME}.*did not find torch 2\.9\.1") as caught:
        resolved(again, declared)
    assert caught.value.exit_code == 3


def index_of(known: Releases, **dep: object) -> StandInIndex:
    index = listing(known)
    return StandInIndex({**index.files, "dep": [file("dep-2.0.tar.gz", "2.0", **dep)]})


@pytest.mark.parametrize(
    "hidden",
    [
        {"upload_time": day(31).replace(year=2027)},
        {"is_yanked": True, "upload_time": day(1)},
    ],
    ids=["later", "withdrawn"],
)
def test_what_the_resolver_may_not_see_is_no_contradiction(
    hidden: Mapping[str, object], declared: Matrix
) -> None:
    said = says("only dep<=1.0 is available and you require dep>=2")
    known = world()
    made = resolved(StandIn([ended(said)]), declared, known, index_of(known, **hidden))
    assert isinstance(made, Unresolvable)
    early = {"upload_time": datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)}
    with pytest.raises(InfrastructureError, match=r"dep 2\.0"):
        resolved(StandIn([ended(said)] * 2), declared, known, index_of(known, **early))


@pytest.mark.parametrize("error", [OSError("reset"), MISMATCH, TimeoutError()])
def test_where_the_index_does_not_answer_a_refusal_is_no_verdict(
    error: Exception, declared: Matrix
) -> None:
    known = world()
    index = StandInIndex({**listing(known).files, "torch": error})
    with pytest.raises(InfrastructureError, match=rf"{NAME}.*torch"):
        resolved(StandIn([ended(says("a contradicts b"))]), declared, known, index)


def test_an_index_that_lacks_a_pinned_release_refuses_nothing(declared: Matrix) -> None:
    known = world()
    index = StandInIndex({**listing(known).files, "torch": [file("torch-2.0.tar.gz", "2.0")]})
    with pytest.raises(InfrastructureError, match=r"no longer lists torch 2\.9\.1"):
        resolved(StandIn([ended(says("a contradicts b"))]), declared, known, index)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory allocation of 65536 bytes failed", "memory ran out"),
        ("Cannot allocate memory (os error 12)", "memory ran out"),
        ("No space left on device (os error 28)", "the disk is full"),
    ],
)
def test_words_of_the_machine_beside_a_refusal_are_no_verdict(
    text: str, said: str, declared: Matrix
) -> None:
    with pytest.raises(InfrastructureError, match=said):
        resolved(StandIn([ended(f"warning: {text}\n{says('a contradicts b')}")]), declared)


def test_a_lock_without_hashes_is_none() -> None:
    text = '[[packages]]\nname = "a"\nversion = "1"\nwheels = [{ url = "file:///x", hashes = {} }]'
    for written in (text, text[:30]):
        with pytest.raises(InfrastructureError, match="lock is incomplete"):
            resolution.body_of(written)


# As a user does, with the real resolver and a real server.

LIES: dict[str, tuple[str, Lie]] = {
    "portal": ("*", portal),
    "portal for one": ("torch", portal),
    "redirected": ("torch", redirected),
    "404": ("torch", nothing),
    "a dependency is gone": ("toy-math", nothing),
    "a dependency has no files": ("toy-math", empty),
    "403": ("torch", lambda true: Answer(status=403, kind="text/plain")),
    "empty list": ("torch", empty),
    "no times": ("torch", page(lambda c: [f.pop("upload-time") for f in c["files"]])),
}
CELL = "compat-1.0-modelopt0.50"


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Liar]]:
    with lying(Index(packages.RELEASES)) as liar:
        project = make(tmp_path_factory.mktemp("toys"), liar.url)
        ended = project.run("refresh")
        assert ended.code == 0, ended.err
        yield project, liar
        liar.lies.clear()


def state(project: Project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.folder)): path.read_bytes()
        for part in ("constraints", "reports")
        for path in (project.folder / part).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", LIES)
def test_no_lie_of_the_index_is_stored(name: str, toys: tuple[Project, Liar]) -> None:
    project, liar = toys
    where, lie = LIES[name]
    liar.lies = {where: lie}
    before = state(project)
    fast = {"MCORE_COMPAT_INDEX_TIMEOUT": "2", "UV_CACHE_DIR": str(project.home / f"uv-{name}")}
    done = project.together(
        {"lock": ["lock", CELL], "run": ["run", CELL], "refresh": ["refresh"]},
        **dict.fromkeys(("lock", "run", "refresh"), fast),
    )
    for command in ("lock", "run", *(["refresh"] if where != "toy-math" else [])):
        if command == "refresh" and name == "no times":
            continue  # what is known of them stays
        assert done[command].code == 3, (command, done[command])
        assert "Traceback" not in done[command].err
    assert state(project) == before


def test_neither_refresh_nor_a_night_takes_a_portal_for_an_index_or_waits_for_ever(
    toys: tuple[Project, Liar],
) -> None:
    project, liar = toys
    before = state(project)
    commands = {
        "refresh": ["refresh", "--join", "--allow-removals"],
        "nightly": ["nightly", "--step", "prepare"],
    }
    fast = {"MCORE_COMPAT_INDEX_TIMEOUT": "1"}
    for lie in (portal, hangs):
        liar.lies = {"*": lie}
        for done in project.together(commands, refresh=fast, nightly=fast).values():
            assert done.code == 3, done
            assert done.seconds < 20
            assert len(done.err.strip().splitlines()) == 2, done.err
    assert state(project) == before


def test_a_refused_resolution_is_made_once_the_index_tells_the_truth(
    toys: tuple[Project, Liar], tmp_path: Path
) -> None:
    project, liar = toys
    cache = {"UV_CACHE_DIR": str(tmp_path)}
    liar.lies = {"*": portal}
    assert project.run("lock", CELL, **cache).code == 3
    # What the resolver keeps of the portal is not believed either.
    liar.lies = {}
    ended = project.run("lock", CELL, **cache)
    assert ended.code == 0, ended.err
    assert "--hash" in (project.folder / "constraints" / "locks" / f"{CELL}.txt").read_text()
