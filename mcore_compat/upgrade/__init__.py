"""From one cell to another: go, go with changes, or no, and why.

results → answer → document → terminal, Markdown, JSON. `validation.py` runs what is not up to date
before that; all else is pure.
"""
