"""Sessions only; each is a few lines that call `mcore_compat`. `nox -l` shows them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))

from mcore_compat.schedule import nox_sessions

nox.needs_version = ">=2026.7"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")


def _command(session: nox.Session, argv: list[str]) -> None:
    from mcore_compat.cli import main  # not on the way to `nox -l`

    nox_sessions.exit_unless_ok(session, main, argv)


def _register_command(name: str, description: str) -> None:
    """Add the session of one command."""

    def command(session: nox.Session) -> None:
        _command(session, [name, *session.posargs])

    command.__doc__ = description
    nox.session(command, name=name, venv_backend="none")


def _register(name: str, description: str, tags: list[str], requires: list[str]) -> None:
    """Add the session of one cell; its environment is made by the package, not by nox."""

    def compat_cell(session: nox.Session) -> None:
        _command(session, ["run", name, *session.posargs])

    compat_cell.__doc__ = description
    nox.session(
        compat_cell,
        name=name,
        venv_backend="none",
        tags=tags,
        default=False,
        requires=requires,
        allow_parallel=True,
    )


def _register_build(key: str, cell: str, package: str) -> None:
    """Add the session that builds one wheel; it alone runs then, for it takes all cores."""

    def build_wheel(session: nox.Session) -> None:
        _command(session, ["build", cell, package])

    build_wheel.__doc__ = f"Build {key}."
    nox.session(build_wheel, name=f"wheel-{key}", venv_backend="none", default=False)


_PLAN = nox_sessions.planned()
for _build in _PLAN.builds:
    _register_build(*_build)
_LISTED = nox_sessions.listed(sys.argv)
for _cell in _LISTED:
    _needs = [f"wheel-{key}" for key in _PLAN.requires.get(_cell.name, ())]
    _register(_cell.name, _cell.description, list(_cell.tags), _needs)

nox.options.sessions = [nox_sessions.newest(_LISTED), "report"]


COMMANDS = {
    "compat": "Any combination: -- 0.16 0.41 --te 2.11 --torch 2.9.",
    "matrix": "Every selected cell that is not fresh, in parallel: -- --mcore '>=0.14'.",
    "static": "Which combinations of all axes cannot be installed, from kept metadata: seconds.",
    "explore": "Run what tells most off the default stacks: -- --budget 60m [--dry-run].",
    "exchange": "Checkpoints across releases: -- [--from CELL ...] [--to CELL ...].",
    "bisect": "Where a check changes: -- --good CELL --bad CELL --check 'restore[gpt]'.",
    "upgrade": "What an upgrade breaks: -- 0.9-modelopt0.21 0.16-modelopt0.41 [--no-run].",
    "bundle": "Carry cells to a machine without a network: -- CELL ... [--part-size 2G].",
    "collect": "Take back what a bundle's runs showed: -- FILE|FOLDER ...",
    "lock": "(Re)make locks: -- [CELL ...].",
    "refresh": "Ask the index for new releases, update the facts, show what is new.",
    "nightly": "Refresh, join new series, run their cells, report what broke: -- --dry-run.",
    "report": "Evidence -> reports/COMPATIBILITY.md and reports/compatibility.json, and the table.",
}
"""What these sessions do; each is the command of its name."""

for _name, _text in COMMANDS.items():
    _register_command(_name, _text)


def _install(session: nox.Session, group: str) -> None:
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, group))


@nox.session
def tests(session: nox.Session) -> None:
    """The tool's own tests: fast, no package under test is installed."""
    _install(session, "test")
    only = ("-m", "not real and not browser and not slurm")
    session.run("pytest", "-n", "auto", *only, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The site in Debian's chromium: filters, links, keyboard, accessibility by axe-core."""
    for program in ("chromium", "npm"):
        if shutil.which(program) is None:
            session.error(f"{program} is not on PATH; install it: apt-get install {program}")
    _install(session, "browser")
    folder = session.create_tmp()
    with session.chdir(folder):
        packed = session.run("npm", "pack", "--silent", "axe-core@4", external=True, silent=True)
        session.run("tar", "-xzf", str(packed).split()[-1], "package/axe.min.js", external=True)
    axe = str(Path(folder, "package", "axe.min.js").resolve())
    session.run(
        "pytest", "-m", "browser", "tests/browser", *session.posargs, env={"MCORE_COMPAT_AXE": axe}
    )


@nox.session
def real(session: nox.Session) -> None:
    """Negative controls in a real cell: break it on purpose, see `broken` (minutes, gigabytes)."""
    _install(session, "test")
    session.run("pytest", "-m", "real and not slurm", "-v", *session.posargs)


@nox.session
def slurm(session: nox.Session) -> None:
    """A real Slurm on loopback (Debian's packages): jobs killed, nodes taken down (minutes)."""
    _install(session, "test")
    session.run("pytest", "-m", "slurm and not real", "-v", "tests/real", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, types; the workflows by their schema and for what is unsafe in them."""
    _install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")
    workflows = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    options = ("--offline", "--no-progress", "--pedantic", "--strict-collection")
    session.run("zizmor", *options, *workflows)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the README promises: nox -s bench -- [NAME ...]."""
    _install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
