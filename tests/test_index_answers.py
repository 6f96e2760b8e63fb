"""An index that refuses, hangs, lies or is none decides nothing: one line, and facts as they were.

A real server on loopback answers; the time-outs are set to a second.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_index import (
    Answer,
    Liar,
    Lie,
    cut,
    empty,
    hangs,
    lying,
    nothing,
    overloaded,
    page,
    portal,
    redirected,
)
from index_support import quiet
from minimatrix import packages
from minimatrix.index import Index

from mcore_compat.base.errors import InfrastructureError, UsageError
from mcore_compat.core.releases import Release, Releases
from mcore_compat.index import package_index, transport
from mcore_compat.index.metadata import MetadataStore
from mcore_compat.index.pip_index import PipIndex

TORCH = [toy for toy in packages.RELEASES if toy.name == "torch"]


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    monkeypatch.setenv(transport.TIMEOUT, "1")
    monkeypatch.setattr(transport._AGAIN, "backoff_factor", 0.01)
    with lying(Index(packages.RELEASES)) as made:
        monkeypatch.setenv("PIP_INDEX_URL", made.url)
        yield made


def asked(liar: Liar, known: Releases | None = None, *, removals: bool = False) -> Releases:
    index = package_index.client()
    return package_index.refresh(
        known or Releases({}), index, quiet, ["torch"], allow_removals=removals
    )


def slow(true: Answer) -> Answer:
    return Answer(kind=true.kind, body=true.body, pause_s=0.5)


LIES: dict[str, Lie] = {
    "portal": portal,
    "redirected to a portal": redirected,
    "404": nothing,
    "503": overloaded,
    "403": lambda true: Answer(status=403, kind="text/plain"),
    "hangs": hangs,
    "byte by byte": slow,
    "cut short": cut,
    "empty list": empty,
    "text/plain": lambda true: Answer(kind="text/plain", body=true.body),
    "no content type": lambda true: Answer(kind="", body=true.body),
    "no JSON": lambda true: Answer(body=b"<html>"),
    "other JSON": lambda true: Answer(body=b'{"files": []}'),
    "deep JSON": lambda true: Answer(body=b"[" * 100_000),
    "another project": page(lambda content: content.update(name="other")),
    "no hashes": page(lambda content: [f.update(hashes={}) for f in content["files"]]),
    "a release less": page(lambda content: content.update(files=content["files"][:1])),
    "no file's name is one": page(
        lambda content: [f.update(filename="other.txt") for f in content["files"]]
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_what_is_no_answer_of_an_index_that_knows_the_releases_changes_nothing(
    name: str, liar: Liar
) -> None:
    known = asked(liar)
    assert [r.version for r in known.of("torch")] == [toy.version for toy in TORCH]
    liar.lies["torch"] = LIES[name]
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match="torch") as caught:
        asked(liar, known)
    assert "\n" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    assert time.monotonic() - started < 15


def test_a_hanging_index_is_asked_twice_and_no_more(liar: Liar) -> None:
    liar.lies["torch"] = hangs
    with pytest.raises(InfrastructureError, match="ReadTimeout"):
        asked(liar)
    assert liar.asked.count("/projects/torch/") == 2


def test_an_overloaded_index_is_asked_again_and_answers(liar: Liar) -> None:
    answers = iter([overloaded, overloaded, lambda true: true])
    liar.lies["torch"] = lambda true: next(answers)(true)
    assert len(asked(liar).of("torch")) == len(TORCH)


def test_an_index_that_refuses_connections_is_said_in_one_line(liar: Liar) -> None:
    index = PipIndex("http://127.0.0.1:9/projects/")
    with pytest.raises(InfrastructureError, match=r"torch.*ConnectionError"):
        package_index.refresh(Releases({}), index, quiet, ["torch"])


@pytest.mark.parametrize("head", ["", '<meta name="pypi:repository-version" content="1.0">'])
def test_pages_of_html_are_pages_of_an_index(head: str, liar: Liar) -> None:
    known = asked(liar)

    def html(true: Answer) -> Answer:
        rows = "".join(
            f'<a href="/files/{name}#sha256={"a" * 64}">{name}</a>'
            for name in (f"torch-{toy.version}-py3-none-any.whl" for toy in TORCH)
        )
        text = f"<!DOCTYPE html><html><head>{head}</head><body>{rows}</body></html>"
        return Answer(kind="text/html; charset=utf-8", body=text.encode())

    liar.lies["torch"] = html
    found = asked(liar, known)
    assert [r.version for r in found.of("torch")] == [toy.version for toy in TORCH]
    # Such a page has no times: what is known of them stays.
    assert [r.uploaded for r in found.of("torch")] == [r.uploaded for r in known.of("torch")]
    assert all(r.uploaded for r in found.of("torch"))


def test_facts_shrink_only_where_that_is_allowed(liar: Liar) -> None:
    known = asked(liar)
    liar.lies["torch"] = LIES["a release less"]
    with pytest.raises(InfrastructureError, match=r"torch 2\.10\.0.*--allow-removals"):
        asked(liar, known)
    assert [r.version for r in asked(liar, known, removals=True).of("torch")] == ["2.9.0"]


def test_a_lost_file_of_a_release_is_a_removal_too_and_a_withdrawn_one_is_none(liar: Liar) -> None:
    known = asked(liar)
    liar.lies["torch"] = page(lambda content: [f.update(yanked=True) for f in content["files"]])
    assert all(r.yanked for r in asked(liar, known).of("torch"))
    (old, *rest) = known.of("torch")
    more = dataclasses.replace(old, sdist=True)
    with pytest.raises(InfrastructureError, match=rf"{old.version} \(its source\)"):
        asked(liar, Releases({"torch": (more, *rest)}))


@pytest.mark.parametrize(
    "lie",
    [portal, cut, hangs, overloaded, lambda true: Answer(kind="text/plain")],
    ids=["portal", "cut", "hangs", "503", "empty"],
)
def test_metadata_that_is_none_is_not_believed(lie: Lie, liar: Liar) -> None:
    liar.lies[f"torch-{TORCH[0].version}-py3-none-any.whl.metadata"] = lie
    with pytest.raises(InfrastructureError, match="torch"):
        asked(liar)


def test_metadata_of_another_package_is_not_believed(liar: Liar) -> None:
    name = f"torch-{TORCH[0].version}-py3-none-any.whl"
    liar.lies["torch"] = page(lambda content: [f.pop("core-metadata") for f in content["files"]])
    liar.lies[f"{name}.metadata"] = lambda true: Answer(
        kind="text/plain", body=true.body.replace(b"Name: torch", b"Name: other")
    )
    with pytest.raises(InfrastructureError, match="metadata of 'other'"):
        asked(liar)


@pytest.mark.parametrize(
    "lie",
    [
        portal,
        redirected,
        cut,
        nothing,
        hangs,
        lambda true: Answer(kind=true.kind, body=true.body[:-1] + b"x"),
    ],
    ids=["portal", "redirected", "cut", "404", "hangs", "a byte"],
)
def test_a_download_is_whole_or_not_there(lie: Lie, liar: Liar, tmp_path: Path) -> None:
    index = package_index.client()
    file = next(f for f in package_index.files_of("torch", index) if f.version == "2.9.0")
    liar.lies[file.filename] = lie
    with pytest.raises(InfrastructureError, match=r"torch-2\.9\.0.*could not be downloaded") as e:
        package_index.download(file, tmp_path / "a.whl", index)
    assert e.value.exit_code == 3
    assert not list(tmp_path.iterdir())
    liar.lies.clear()
    package_index.download(file, tmp_path / "a.whl", index)
    assert [path.name for path in tmp_path.iterdir()] == ["a.whl"]


def test_a_download_that_fills_the_disk_leaves_nothing(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = package_index.client()
    file = package_index.files_of("torch", index)[0]

    def full(pkg: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index._simple, "download_package", full)  # type: ignore[attr-defined]
    with pytest.raises(InfrastructureError, match="the disk is full"):
        package_index.download(file, tmp_path / "a.whl", index)
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_hash_is_not_downloaded(liar: Liar, tmp_path: Path) -> None:
    liar.lies["torch"] = LIES["no hashes"]
    index = package_index.client()
    file = package_index.files_of("torch", index)[0]
    with pytest.raises(InfrastructureError, match="no sha256"):
        package_index.download(file, tmp_path / "a.whl", index)


@pytest.mark.parametrize("lie", [nothing, empty, portal], ids=["404", "empty", "portal"])
def test_a_kept_page_is_not_forgotten_for_no_answer(lie: Lie, liar: Liar, tmp_path: Path) -> None:
    store = MetadataStore(folder=tmp_path, client=package_index.client(), today="2026-01-01")
    assert store.page("toy-math", "2026-01-01")
    store.save()
    liar.lies["toy-math"] = lie
    later = MetadataStore(folder=tmp_path, client=package_index.client(), today="2026-02-01")
    with pytest.raises(InfrastructureError, match="toy-math"):
        later.page("toy-math", "2026-02-01")
    assert MetadataStore(folder=tmp_path).page("toy-math", "2026-01-01")


def test_a_page_without_a_known_release_is_not_kept(liar: Liar, tmp_path: Path) -> None:
    known = Releases({"torch": (Release(package="torch", version="2.11.0"),)})
    store = MetadataStore(folder=tmp_path, client=package_index.client(), known=known)
    with pytest.raises(InfrastructureError, match=r"no longer lists torch 2\.11\.0"):
        store.page("torch", "2026-01-01")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_a_time_out_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(transport.TIMEOUT, text)
    with pytest.raises(UsageError, match=transport.TIMEOUT):
        transport.limits()
