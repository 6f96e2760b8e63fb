"""Stage results → published files: all but the site, from results only. Pure, except `stage` and
`write`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mcore_compat.analysis import published
from mcore_compat.base import file_group, files
from mcore_compat.publish import (
    compatibility_json,
    compatibility_page,
    constraints_files,
    csv_table,
    issue_drafts,
    pictures,
)
from mcore_compat.publish.collation import Collated
from mcore_compat.results import verdict_index

Text = Callable[[], str | Iterable[str]]
"""Makes the text of a file, whole or in pieces."""

Texts = Mapping[Path, Text]


def texts(all_: Collated, reports: Path) -> dict[Path, Text]:
    """Every published file but the site, and the function that makes its text."""
    return {**of_all(all_, reports), **of_each(all_, reports)}


def of_all(all_: Collated, reports: Path) -> dict[Path, Text]:
    """The files that follow from all results together."""
    by_name = {e.cell: e for e in all_.found}
    drafts = issue_drafts.texts(all_.findings, by_name)
    return {
        **{
            reports / issue_drafts.FOLDER / name: functools.partial(str, text)
            for name, text in drafts.items()
        },
        reports / compatibility_page.NAME: lambda: compatibility_page.markdown(all_),
        reports / compatibility_json.NAME: lambda: compatibility_json.text(all_),
        reports / compatibility_json.SCHEMA: lambda: files.dump_json(published.json_schema()),
    }


def of_each(all_: Collated, reports: Path) -> dict[Path, Text]:
    """The files that show one result after the other."""
    folder = reports / constraints_files.FOLDER
    return {
        **{
            folder / f"{name}.txt": functools.partial(lambda name: all_.constraints[name], name)
            for name in constraints_files.recommendable(all_.found)
        },
        **{
            reports / name: functools.partial(str, text)
            for name, text in pictures.texts(all_).items()
        },
        reports / "compatibility.csv": lambda: csv_table.csv_text(all_.found),
        reports / "verdicts.json": lambda: verdict_index.text_of(all_.found),
    }


def drift(by_path: Texts) -> list[Path]:
    """The published files that differ from what the results make, and those to remove."""
    changed = [path for path, make in by_path.items() if not _is_there(path, "".join(make()))]
    return [*changed, *outdated(by_path)]


def _is_there(path: Path, text: str) -> bool:
    """Whether a file has this text; False if it cannot be read."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def outdated(by_path: Texts) -> list[Path]:
    """Published files to remove: issue texts, constraints, pictures and badges that the results no
    longer make."""
    roots = [path.parent for path in by_path if path.name == compatibility_page.NAME]
    kinds = (
        f"{issue_drafts.FOLDER}/*.md",
        f"{constraints_files.FOLDER}/*.txt",
        f"{pictures.PICTURES}/*.svg",
        f"{pictures.BADGES}/*/*.*",
    )
    return sorted(
        p for root in roots for kind in kinds for p in root.glob(kind) if p not in by_path
    )


def stage(by_path: Texts, changes: file_group.Changes) -> list[Path]:
    """Stage every published file that differs from what the results make. Returns these files."""
    written = []
    for path, make in by_path.items():
        text = make()
        if not (
            isinstance(text, str) and _is_there(path, text)
        ):  # thousands of unchanged files are not rewritten
            changes.write(path, text, durable=False)  # can be made again from results at any time
            written.append(path)
    return written


def write(by_path: Texts) -> None:
    """Write every published file and remove the outdated ones: either all changes are made or none.

    Raises:
        InfrastructureError: the disk is full or not writable; nothing is changed then.
    """
    with file_group.Changes() as changes:
        stage(by_path, changes)
        for path in outdated(by_path):
            changes.remove(path)
        changes.commit()
