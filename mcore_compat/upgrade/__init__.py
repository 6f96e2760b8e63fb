"""From one cell to another: go, go with changes, or no, and why.

evidence → answer → document → terminal, Markdown, JSON. `validation.py` runs what is not fresh
before that; all else is pure.
"""
