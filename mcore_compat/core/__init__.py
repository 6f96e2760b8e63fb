"""Axes, cells, outcomes, the matrix, releases: what is declared."""
