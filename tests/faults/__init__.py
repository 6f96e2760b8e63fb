"""Faults of the surroundings, put in place around the program while it works on a toy project.

    nox -s faults                                   all kinds, a thousand injections, on two cores
    nox -s faults -- --sample 40                    so many injections, spread over the kinds
    nox -s faults -- --kinds 'folder-*,index-html'  some kinds; globs
    nox -s faults -- --again folder-home-full/3     one injection, with all that it printed
    nox -s faults -- --cell compat-0.16-modelopt0.41 --sample 20
                                                    a real cell, a few checks of it (minutes)
    nox -s faults -- --renew --kinds 'signal-*'     these again after a mend, and their rows written
    nox -s faults -- --list                         the kinds, without a run

One injection: the toy project of `tests/minimatrix` is put back as it was prepared (two cells with
results, published; one that was not run yet; a bundle's result to be collected), a command is
chosen, the fault is put in place, before or at a random moment of the command, and the command is
run as a process to its end. Then everything is judged (`judging.py`), against what the same command
does undisturbed. What is counted, and must be 0:

false verdicts    a word of an outcome is stored, published or printed that is not there
                  undisturbed; or the command ends as if it had a verdict, or had done its work
results lost      a result, a lock or a fact that was there is not, or is less than it was
processes left    a process of the project goes on two seconds after the command's end
files left        a file that the command does not leave undisturbed, in the project or in the
                  temporary folder; several files that are partly old and partly new. Who is killed
                  clears nothing away: then the next run must
tracebacks shown  of Python
raw text          control characters reach the terminal or a file
hangs             no end within 40 seconds
wrong ends        another exit code than the undisturbed one, 3 or (bad input) 2; or no word why
not well after    the same command, with the fault gone, does not do what it does undisturbed

The seed decides on the command and the moment of each injection (`--seed`; it is printed). What
needs mounts or strace is not tried where there are none, and the table says so: as root all are
tried. The files that are written of a whole session are `score.json` beside this file and
`docs/faults.md`; a part of it writes nothing, but where `--json FILE` says, and with `--renew` the
rows of its kinds, which are then asked as often as in a whole one.
"""
