"""The measurements in docs/benchmarks.md, each compared with the obvious alternative."""
