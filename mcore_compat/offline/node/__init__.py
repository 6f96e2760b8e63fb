"""The code that runs on the machine without a network, the node: on Python 3.10, with the standard
library and the bundle's `packaging`.

`run_script` is the bundle's `run.py`, which verifies every file before it runs anything else of the
bundle. `cell_run` runs the suite in a cell, `parallel` in several at a time, `detached` in the
background; `environment`, `install`, `shared_packages` and `overlay` make the environments.
"""
