"""The nox sessions; each is a few lines that call `mcore_compat`. `nox -l` lists them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))

from mcore_compat.cli import main, registry
from mcore_compat.schedule import nox_sessions

nox.needs_version = ">=2026.7"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")


def _command(session: nox.Session, argv: list[str]) -> None:
    nox_sessions.exit_unless_ok(session, main, argv)


def _register_command(name: str, description: str) -> None:
    """Add the session of one command."""

    def command(session: nox.Session) -> None:
        _command(session, [name, *session.posargs])

    command.__doc__ = description
    nox.session(command, name=name, venv_backend="none")


def _register(name: str, description: str, tags: list[str]) -> None:
    """Add the session of one cell; the package makes its environment, not nox."""

    def compat_cell(session: nox.Session) -> None:
        _command(session, ["run", name, *session.posargs])

    compat_cell.__doc__ = description
    nox.session(
        compat_cell,
        name=name,
        venv_backend="none",
        tags=tags,
        default=False,
        allow_parallel=True,
    )


_LISTED = nox_sessions.listed(sys.argv)
__doc__ = _LISTED.heading  # what `nox -l` says first
for _cell in _LISTED.sessions:
    _register(_cell.name, _cell.description, list(_cell.tags))

nox.options.sessions = [*_LISTED.default, "report"]


for _of in registry.COMMANDS:
    if _of.session:
        _register_command(_of.name, _of.session)


def _install(session: nox.Session, group: str) -> None:
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, group))


@nox.session
def tests(session: nox.Session) -> None:
    """The tool's own tests: fast, no package under test is installed."""
    _install(session, "test")
    only = ("-m", "not real and not browser and not slurm")
    workers = (os.cpu_count() or 1) + 1  # tests sometimes wait for processes
    session.run("pytest", "-n", str(workers), *only, *session.posargs)


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
    """Negative controls: break a real cell on purpose, expect `broken` (minutes, gigabytes)."""
    _install(session, "test")
    session.run("pytest", "-m", "real and not slurm", "-v", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break packages of real cells, one fault at a time; checks must notice it (an hour)."""
    _install(session, "test")
    session.run("python", "-m", "mutants", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def faults(session: nox.Session) -> None:
    """Faults of disk, memory, signals, index: none may become a verdict (half an hour)."""
    _install(session, "test")
    session.run("python", "-m", "faults", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def slurm(session: nox.Session) -> None:
    """A real Slurm on loopback (Debian's packages): jobs killed, nodes taken down (minutes)."""
    _install(session, "test")
    session.run("pytest", "-m", "slurm and not real", "-v", "tests/real", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, types, words of user-facing text; workflows and actions."""
    _install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")
    session.run("python", "-m", "words", env={"PYTHONPATH": "tests"})
    workflows = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    actions = sorted(str(path) for path in Path(".github/actions").glob("*/action.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-actions", *actions)
    options = ("--offline", "--no-progress", "--pedantic", "--strict-collection")
    session.run("zizmor", *options, *workflows, *actions)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation in build/docs; --renew: transcripts, --foreign: external links."""
    _install(session, "docs")
    words = set(session.posargs)
    if unknown := words - {"--renew", "--foreign"}:
        session.error(f"unknown option {', '.join(sorted(unknown))}; valid: --renew, --foreign")
    renew = ["--renew"] if "--renew" in words else []
    session.run("python", "docs/_extensions/transcripts.py", "README.md", *renew)
    options = ("-W", "--keep-going", "-q", "-E", "docs")
    session.run("sphinx-build", "-b", "html", *options, "build/docs")
    session.run("python", "docs/_extensions/site_links.py", "build/docs", "reports")
    if "--foreign" in words:
        session.run("sphinx-build", "-b", "linkcheck", *options, "build/linkcheck")
    session.log(f"{Path('build/docs/index.html').resolve()}")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the numbers of docs/benchmarks.md: nox -s bench -- [NAME ...]."""
    _install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
