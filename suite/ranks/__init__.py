"""Restore across parallel sizes: one rank saves and two load, and the other way round.

A part of its own: `suite/run.py --checks suite/ranks`. The main suite does not run it, and its
digest does not hold it. Two ranks are started with torchrun: gloo ranks on the CPU, where the
main suite's stand-in stands in for CUDA as it does there, and NCCL ranks where there are two GPUs.
"""
