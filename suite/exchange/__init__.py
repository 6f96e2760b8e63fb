"""Checkpoints across releases: each cell keeps what it saved, and any other loads it.

A part of its own: `suite/run.py --checks suite/exchange`, with the folders named by
`suite.exchange.kept`. The main suite does not run it, and its digest does not hold it.
"""
