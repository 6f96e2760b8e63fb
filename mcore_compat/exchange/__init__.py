"""Checkpoints across releases: each cell saves some, and any other cell loads them.

plan → saved → loaded → report; the checks are in `suite/exchange/`.
"""
