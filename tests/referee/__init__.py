"""Upstream's own tests as a referee: its test file run in a cell, and what it asserts."""
