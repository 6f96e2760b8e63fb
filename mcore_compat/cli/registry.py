"""All commands, and the help of the program. A command is the module of its name in this folder,
which is imported only when the command is used: a quick start."""

from __future__ import annotations

from dataclasses import dataclass

from mcore_compat.base.errors import UsageError, nearest

PURPOSE = """\
Which versions of megatron-core, ModelOpt, Transformer Engine and torch work together: installs each
combination for real, runs one suite in it, and publishes what that showed."""

VERDICT = """\
0 compatible (or partial, every failure declared in constraints/matrix.toml),
1 any other verdict (incompatible always)"""
"""What a command's exit code says that gives verdicts."""

FAILURES = """\
2 bad input, 3 network, disk or another failure of the surroundings, 130 interrupted"""
"""What it says for every command."""

ASK = "ask what is published (runs nothing)"
RUN = "run"
KEEP = "keep the matrix"
CARRY = "carry to other machines"


@dataclass(frozen=True)
class Command:
    """A command in a few words; `example` is what follows its name. `session`: nox has one of
    its name."""

    name: str
    group: str
    summary: str
    example: str = ""
    session: bool = True


COMMANDS = (
    Command("list", ASK, "The cells and their last verdicts", session=False),
    Command("show", ASK, "What is known of a cell", "0.16-modelopt0.41", session=False),
    Command("explain", ASK, "Why a cell fails", "0.16-modelopt0.41", session=False),
    Command(
        "recommend",
        ASK,
        "Tested combinations that fit what you have",
        "'torch 2.9, modelopt >=0.39'",
        session=False,
    ),
    Command(
        "doctor",
        ASK,
        "What is wrong with an environment; with --run, what the suite shows in it",
        "--python .venv/bin/python",
        session=False,
    ),
    Command(
        "static",
        ASK,
        "Which combinations of all axes cannot be installed, from kept metadata: seconds",
    ),
    Command("run", RUN, "Run cells by name", "0.16-modelopt0.41", session=False),
    Command("compat", RUN, "Run any combination", "0.16 0.41 --te 2.11 --torch 2.9"),
    Command(
        "matrix", RUN, "Run every selected cell that is not fresh, in parallel", "--mcore '>=0.14'"
    ),
    Command(
        "upgrade",
        RUN,
        "What an upgrade breaks, and whether checkpoints come over",
        "0.9-modelopt0.21 0.16-modelopt0.41 --no-run",
    ),
    Command(
        "bisect",
        RUN,
        "The first release at which a check changes",
        "--good 0.15-modelopt0.41 --bad 0.16-modelopt0.41 --check 'restore[gpt]'",
    ),
    Command(
        "exchange",
        RUN,
        "Load the checkpoints that other cells saved",
        "--from 0.15-modelopt0.41 --to 0.16-modelopt0.41",
    ),
    Command("explore", RUN, "Run what tells most off the default stacks", "--budget 60m --dry-run"),
    Command(
        "build",
        RUN,
        "Build one wheel of a cell",
        "0.16-modelopt0.41 transformer-engine-torch",
        session=False,
    ),
    Command("lock", KEEP, "(Re)make the locks of cells", "0.16-modelopt0.41"),
    Command("refresh", KEEP, "Ask the index for new releases, update the facts, show what is new"),
    Command(
        "nightly", KEEP, "Refresh, join new series, run their cells, report what broke", "--dry-run"
    ),
    Command("report", KEEP, "Write all that is published, from the results, and print the table"),
    Command(
        "bundle",
        CARRY,
        "Pack cells for a machine without a network",
        "0.16-modelopt0.41 --part-size 2G",
    ),
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
