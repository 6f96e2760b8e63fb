"""All commands, and the help of the program. A command is the module of its name in this folder,
which is imported only when the command is used: a quick start."""

from __future__ import annotations

from dataclasses import dataclass

from mcore_compat.base.errors import UsageError, nearest

PURPOSE = """\
Which versions of megatron-core, ModelOpt, Transformer Engine and torch work together: installs each
combination, runs the same test suite in it, and publishes the results. A cell is one combination:
0.16-modelopt0.41 is megatron-core 0.16 with ModelOpt 0.41, on that series' default stack."""

VERDICT = "0 compatible for the profile, 1 not compatible (declared failures count, too)"
"""The exit codes of a command that gives verdicts."""

NEWS = """\
0 no new failure: all are declared in constraints/matrix.toml or were published before,
1 new failures"""
"""The exit codes of a command that runs many cells: whether somebody has to look."""

FAILURES = """\
2 bad input, 3 infrastructure error (network, disk, memory, machine), 130 interrupted,
141 the reader of a pipe ended"""
"""The exit codes that every command has."""

ASK = "read published results"
RUN = "run the suite"
KEEP = "maintain the matrix"
CARRY = "machines without a network"

WITHOUT_SESSION = (
    *(
        "list",
        "show",
        "explain",
        "recommend",
        "doctor",
        "scan",
        "api",
        "run",
        "build",
        "init",
        "toolkit",
    ),
)
"""Commands that nox has no session for; a cell's session is named after the cell."""

READING = (
    *(
        "list",
        "show",
        "explain",
        "recommend",
        "doctor",
        "scan",
        "api",
        "static",
        "init",
        "upgrade",
        "toolkit",
    ),
)
"""Commands that need no writable workspace; `upgrade` needs one only if it runs something."""


@dataclass(frozen=True)
class Command:
    """A command and its summary; `example`: the arguments of an example call."""

    name: str
    group: str
    summary: str
    example: str = ""

    @property
    def session(self) -> str | None:
        """The description of the nox session of this name; None if there is no such session."""
        example = f": -- {self.example}" if self.example else ""
        return None if self.name in WITHOUT_SESSION else f"{self.summary}{example}."

    @property
    def writes(self) -> bool:
        """Whether it writes into the workspace."""
        return self.name not in READING


OLDER, CELL = "0.9-modelopt0.21", "0.16-modelopt0.41"
"""Of the examples."""

COMMANDS = (
    Command("list", ASK, "List the cells with their latest verdicts"),
    Command("show", ASK, "Show the published results of a cell", CELL),
    Command("explain", ASK, "Explain why a cell fails", CELL),
    Command(
        "recommend", ASK, "Recommend tested combinations that fit what you have", "'torch 2.9'"
    ),
    Command(
        "doctor", ASK, "Find what is wrong with an environment; --run: run the suite in it", "-v"
    ),
    Command("scan", ASK, "Check whether your own code fits a release", f"src --against {CELL}"),
    Command("api", ASK, "Show when a name was added, changed, moved or removed", "GPTModel"),
    Command("static", ASK, "Count the combinations that cannot be installed, with reasons"),
    Command("run", RUN, "Run cells by name", CELL),
    Command("compat", RUN, "Run any combination of versions", "0.16 0.41 --te 2.11 --torch 2.9"),
    Command(
        "matrix", RUN, "Run all cells whose published result is out of date", "--mcore '>=0.14'"
    ),
    Command(
        "upgrade",
        RUN,
        "Show what an upgrade breaks, and whether checkpoints load",
        f"{OLDER} {CELL}",
    ),
    Command(
        "bisect",
        RUN,
        "Find the first release at which a check changes",
        "--good 0.14-modelopt0.40 --bad 0.14-modelopt0.31 --check 'modelopt-state*'",
    ),
    Command(
        "repair", RUN, "Find the pin of another package that repairs a cell", "0.14-modelopt0.31"
    ),
    Command(
        "exchange", RUN, "Load checkpoints that other releases saved", f"--from {OLDER} --to {CELL}"
    ),
    Command(
        "explore",
        RUN,
        "Run the untested combinations most likely to change an answer",
        "--budget 60m",
    ),
    Command("build", RUN, "Build one wheel of a cell", f"{CELL} transformer-engine-torch"),
    Command(
        "toolkit", RUN, "Set up a CUDA toolkit without root, for builds with nvcc", "--cuda 12.4"
    ),
    Command("init", KEEP, "Create a workspace to run cells without a clone", "my-matrix"),
    Command("lock", KEEP, "Create the locks of cells, or update them", CELL),
    Command("refresh", KEEP, "Look up new releases in the package index and record them"),
    Command("nightly", KEEP, "Check for new releases, test them, report what broke", "--dry-run"),
    Command("report", KEEP, "Write all published files from the results, and print each verdict"),
    Command("bundle", CARRY, "Pack cells for a machine without a network", CELL),
    Command(
        "collect", CARRY, "Store the results of a bundle's runs on another machine", "results.tar"
    ),
)

BY_NAME = {command.name: command for command in COMMANDS}


def command(name: str) -> Command:
    """The command of a name.

    Raises:
        UsageError: no such command; names the nearest.
    """
    if name not in BY_NAME:
        raise UsageError(f'no such command "{name}"{nearest(name, BY_NAME)}')
    return BY_NAME[name]


def exit_codes(answers: str) -> str:
    """The exit codes of a command; `answers`: the meaning of 0 and, if it is used, of 1."""
    return f"exit codes: {answers},\n{FAILURES}"


def program_help() -> str:
    """The help of the program: its purpose, and its commands in groups."""
    lines = ["usage: mcore-compat COMMAND ...", "", PURPOSE]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += ["", f"{group}:"]
        lines += [f"  {c.name:10} {c.summary}" for c in COMMANDS if c.group == group]
    lines += [
        "",
        "mcore-compat COMMAND --help shows the options of a command and an example.",
        "",
        exit_codes(VERDICT),
    ]
    return "\n".join(lines)
