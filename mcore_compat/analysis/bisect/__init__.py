"""Bisection: the release at which a check changes."""
