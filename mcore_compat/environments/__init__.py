"""Wheelhouse, build recipes, CUDA toolkits, creation, interpreters, variables."""
