"""Faults of the machine, injected while the program works on a toy project.

    nox -s faults                                   all kinds, a thousand injections, on two cores
        nox -s faults -- --sample 40                    40 injections, spread over the kinds
    nox -s faults -- --kinds 'folder-*,index-html'  some kinds; globs
        nox -s faults -- --again folder-home-full/3     one injection, with all its output
    nox -s faults -- --cell compat-0.16-modelopt0.41 --sample 20
                                                    a real cell, a few checks of it (minutes)
        nox -s faults -- --renew --kinds 'signal-*'     these again after a fix; writes their rows
    nox -s faults -- --list                         the kinds; runs nothing

One injection: the toy project of `tests/minimatrix` is reset to its prepared state (two cells with
published results, one that was not run yet, a bundle's result to collect), a command is chosen, the
fault is put in place before the command or at a random moment of it, and the command runs as a
process to its end. Then `judging.py` compares everything with what the same command does without
the fault. It counts, and each count must be 0:

false verdicts    an outcome is stored, published or printed that the undisturbed command does not
                  give; or the command ends as if it had a verdict, or had done its work
results lost      a stored result, lock or fact is gone, or has less in it
processes left    a process of the project still runs two seconds after the command's end
files left        a file in the project or the temporary folder that the undisturbed command does
                  not leave; a group of files that is partly old and partly new. After a kill, the
                  next run must clean up
tracebacks shown  a Python traceback is printed
raw text          control characters reach the terminal or a file
hangs             the command does not end within 40 seconds
wrong ends        the exit code is neither the undisturbed one nor 3 nor (bad input) 2; or there is
                  no message
not well after    the same command, after the fault is removed, behaves differently

The seed determines the command and the moment of each injection (`--seed`; it is printed). Kinds
that need mounts or strace are not tried where those are missing, and the table says so; as root
all are tried. A whole session writes `score.json` beside this file and `docs/faults.md`. A part of
one writes only the file that `--json FILE` names and, with `--renew`, the rows of its kinds, which
then run as often as in a whole session.
"""
