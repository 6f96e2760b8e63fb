"""Faults put into the real packages of a real cell, one at a time, to see whether a check notices.

    nox -s mutants                                  every fault, in the two cells of `CELLS`
    nox -s mutants -- --only 'restore-*,load-*'     some of them; the score file keeps the others
    nox -s mutants -- --unnoticed                   those that no check has noticed so far
    nox -s mutants -- --resume                      those that this suite was not asked about yet
    nox -s mutants -- --cell NAME --jobs 2 --list   where they fit, without a run

A fault is data, in `catalogue/*.toml`, one file an area:

    [norm-bias-not-mapped]                 what is broken, in kebab case
    breaks = "…"                           one sentence: why it matters
    noticed_by = ["restore[*]"]            checks, by id or glob; one of them must notice
    why_missed = "…"                      optional: why it may go without notice
    hangs = true                           optional: it never comes to an end, on purpose
    [[norm-bias-not-mapped.variant]]       one for each way in which releases write it
    file = "megatron/core/…/x.py"          below site-packages; may be a glob that fits one file
    find = '''…'''                         a text, or several, each there exactly once
    replace = '''…'''                      what stands there instead; as many as `find`

Which variant fits a release is found by looking for its text, never by a version; a fault whose
text is nowhere, or is there more than once, does not apply to that cell, and the score says why.
A variant with `emptied = true` leaves an empty file; in one with `times = 2` each text must be
there twice, as names of symbols are in a library that is not stripped, and both are replaced.

The environment itself is never written to. The package's top folder is linked, file by file, into
a temporary folder; the one file that is broken is a new file there; and that folder comes first on
PYTHONPATH. Each run first asks the cell's Python where it would import the broken file from.

First the unchanged cell is asked all checks that any of the faults names. A fault is *noticed*
where one of its checks that held there is then broken or crashed, or holds only under a condition
where it held without (works → works-with); else it is *missed*. A check that becomes unsupported,
or that is only blocked, has not noticed. One that is timed-out has noticed a fault that hangs;
of any other fault it says nothing, for a busy machine is slow, too. Such a fault, and one with
which the run did not come to its end, is asked once more, alone, after all others; if nothing
else comes of it, it is an *error*, and counts as not noticed.

`score.json` beside this file has what each fault came to; `docs/mutants.md` is written from it.
Only verdicts of one suite are counted, in each cell that of the run that was last.
"""

CELLS = ("compat-0.16-modelopt0.41", "compat-0.19-modelopt0.46")
