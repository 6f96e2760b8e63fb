"""Bundles: cells carried to a machine without a network, run there, their evidence brought back.

Here: `contents` says what is in a bundle, `download` and `archive` make it, `collect` takes back
what came of it after `carried` has verified it. There: `start` is the bundle's `run.py`, which
verifies every file before anything else of the bundle is run; `node`, `environments`, `install` and
`base` do the rest, beside the few modules of this package that they need, on Python 3.10 with the
standard library and the bundle's `packaging`.
"""
