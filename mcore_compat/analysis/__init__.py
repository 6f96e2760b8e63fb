"""Causes, version rules, intervals, bisection, recommendations."""
