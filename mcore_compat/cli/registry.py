"""All commands, and the help of the program. A command is the module of its name in this folder,
which is imported only when the command is used: a quick start."""

from __future__ import annotations

from dataclasses import dataclass

from mcore_compat.base.errors import UsageError, nearest

PURPOSE = """\
Which versions of megatron-core, ModelOpt, Transformer Engine and torch work together: installs each
combination for real, runs one suite in it, and publishes what that showed."""

VERDICT = "0 compatible for the profile, 1 not: what is declared to fail fails all the same"
"""What a command's exit code says that gives verdicts."""

NEWS = """\
0 nothing that ran fails but what is declared in constraints/matrix.toml or was published before,
1 something else fails"""
"""What it says of many cells: whether somebody has to look."""

FAILURES = """\
2 bad input, 3 network, disk or another failure of the surroundings, 130 interrupted"""
"""What it says for every command."""

ASK = "ask what is published"
RUN = "run"
KEEP = "keep the matrix"
CARRY = "carry to other machines"

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
"""Commands that write nothing into the workspace; `upgrade` with `--no-run`, else it says so."""


@dataclass(frozen=True)
class Command:
    """A command in a few words; `example` is what follows its name."""

    name: str
    group: str
    summary: str
    example: str = ""

    @property
    def session(self) -> str | None:
        """What nox says of the session of its name, None where there is no such session."""
        example = f": -- {self.example}" if self.example else ""
        return None if self.name in WITHOUT_SESSION else f"{self.summary}{example}."

    @property
    def writes(self) -> bool:
        """Whether it writes into the workspace."""
        return self.name not in READING


OLDER, CELL = "0.9-modelopt0.21", "0.16-modelopt0.41"
"""Of the examples."""

COMMANDS = (
    Command("list", ASK, "The cells and their last verdicts"),
    Command("show", ASK, "What is known of a cell", CELL),
    Command("explain", ASK, "Why a cell fails", CELL),
    Command("recommend", ASK, "Tested combinations that fit what you have", "'torch 2.9'"),
    Command("doctor", ASK, "What is wrong with an environment; --run: run the suite in it", "-v"),
    Command("scan", ASK, "Whether your own code fits a release", f"src --against {CELL}"),
    Command("api", ASK, "Since when a name is there, what changed, where it went", "GPTModel"),
    Command("static", ASK, "Which combinations of all axes cannot be installed: seconds"),
    Command("run", RUN, "Run cells by name", CELL),
    Command("compat", RUN, "Run any combination", "0.16 0.41 --te 2.11 --torch 2.9"),
    Command(
        "matrix", RUN, "Run all cells whose published result is out of date", "--mcore '>=0.14'"
    ),
    Command(
        "upgrade", RUN, "What an upgrade breaks, and whether checkpoints load", f"{OLDER} {CELL}"
    ),
    Command(
        "bisect",
        RUN,
        "The first release at which a check changes",
        "--good 0.14-modelopt0.40 --bad 0.14-modelopt0.31 --check 'modelopt-state*'",
    ),
    Command("repair", RUN, "The pin off the axes that repairs a cell", "0.14-modelopt0.31"),
    Command("exchange", RUN, "Checkpoints across releases", f"--from {OLDER} --to {CELL}"),
    Command("explore", RUN, "Run what tells most off the default stacks", "--budget 60m"),
    Command("build", RUN, "Build one wheel of a cell", f"{CELL} transformer-engine-torch"),
    Command(
        "toolkit", RUN, "Make a CUDA toolkit without root, for builds with nvcc", "--cuda 12.4"
    ),
    Command("init", KEEP, "Make a workspace, to run cells without a clone", "my-matrix"),
    Command("lock", KEEP, "(Re)make the locks of cells", CELL),
    Command("refresh", KEEP, "Ask the index for new releases, update the facts, show what is new"),
    Command("nightly", KEEP, "Refresh, join new series, run them, report what broke", "--dry-run"),
    Command("report", KEEP, "Write all that is published, from the results, and print the table"),
    Command("bundle", CARRY, "Pack cells for a machine without a network", CELL),
    Command("collect", CARRY, "Take back what a bundle's runs showed", "evidence.tar"),
)

BY_NAME = {command.name: command for command in COMMANDS}


def command(name: str) -> Command:
    """The command of a name.

    Raises:
        UsageError: there is none; names the nearest.
    """
    if name not in BY_NAME:
        raise UsageError(f'no such command "{name}"{nearest(name, BY_NAME)}')
    return BY_NAME[name]


def exit_codes(answers: str) -> str:
    """The exit codes of a command; `answers`: what 0 and, where there is such, 1 say."""
    return f"exit codes: {answers},\n{FAILURES}"


def program_help() -> str:
    """What the program does, with its commands in groups."""
    lines = ["usage: mcore-compat COMMAND ...", "", PURPOSE]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += ["", f"{group}:"]
        lines += [f"  {c.name:10} {c.summary}" for c in COMMANDS if c.group == group]
    lines += [
        "",
        "mcore-compat COMMAND --help tells more of one, with an example.",
        "",
        exit_codes(VERDICT),
    ]
    return "\n".join(lines)
