"""Checks in an environment → a result; the pipeline of one cell; GPUs; faults of the machine."""
