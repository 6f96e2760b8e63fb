"""What runs on the machine without a network, its node: on Python 3.10, with the standard library
and the bundle's own `packaging`.

`run_script` is the bundle's `run.py`, which verifies every file before anything else of the bundle
is run; `cell_run` runs the suite in a cell, `parallel` in several at a time, `detached` behind the
caller's back; `environment`, `install`, `shared_packages` and `overlay` make what it runs in.
"""
