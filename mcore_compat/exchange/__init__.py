"""Checkpoints across releases: each cell keeps what it saved, any other loads it.

plan → saved → loaded → report; the checks are in `suite/exchange/`.
"""
