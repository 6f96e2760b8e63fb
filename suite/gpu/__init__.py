"""The GPU tier: models on the device, with real kernels. Nothing stands in for a GPU here.

A part of its own: `suite/run.py --checks suite/gpu`. The main suite does not run it, and its
digest does not hold it. On a host each check is `needs-gpu`, and no package is asked anything.
"""
