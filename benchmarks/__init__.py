"""Measurements behind docs/benchmarks.md; side by side with what a user would otherwise do."""
