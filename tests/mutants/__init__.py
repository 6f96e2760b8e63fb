"""Faults put into the real packages of a real cell, one at a time, to see whether a check notices.

    nox -s mutants                                  every fault, in the two cells of `CELLS`
    nox -s mutants -- --only 'restore-*,load-*'     some of them; the score file keeps the others
        nox -s mutants -- --unnoticed                   those that no check has noticed so far
    nox -s mutants -- --resume                      those that were not run with this suite yet
    nox -s mutants -- --cell NAME --jobs 2 --list   where they apply; runs nothing

A fault is data, in `catalogue/*.toml`, one file for each area:

    [norm-bias-not-mapped]                 what is broken, in kebab case
    breaks = "…"                           one sentence: why it matters
    noticed_by = ["restore[*]"]            checks, by id or glob; one of them must notice
    why_missed = "…"                       optional: why it may be missed
    hangs = true                           optional: it hangs on purpose
    [[norm-bias-not-mapped.variant]]       one for each way in which releases write it
    file = "megatron/core/…/x.py"          below site-packages; may be a glob that fits one file
    find = '''…'''                         a text, or several, each occurring exactly once
    replace = '''…'''                      the replacements, as many as `find`

The variant for a release is found by looking for its text, never by a version. A fault whose text
does not occur, or occurs more than once, does not apply to that cell, and the score says why.
A variant with `emptied = true` leaves an empty file; with `times = 2` each text must occur twice,
as names of symbols do in a library that is not stripped, and both are replaced.

The environment itself is never written to. The package's top folder is linked, file by file, into
a temporary folder; only the broken file is a new file there; and that folder comes first on
PYTHONPATH. Each run first makes sure that the cell's Python would import the broken file from
there.

First the unchanged cell runs all checks that any of the faults names. A fault is *noticed* if one
of its checks that held there is then broken or crashed, or needs a condition that it did not need
(works → works-with); else it is *missed*. A check that becomes unsupported or blocked has not
noticed. A check that is timed-out has noticed a fault that hangs; for any other fault it proves
nothing, since a busy machine is slow, too. Such a fault, and one whose run did not end, runs once
more, alone, after all others; if the result is the same, it is an *error*, and counts as not
noticed.

`score.json` beside this file has the result of each fault; `docs/mutants.md` is written from it.
In each cell, only the verdicts of its last run's suite count.
"""

CELLS = ("compat-0.16-modelopt0.41", "compat-0.19-modelopt0.46")
