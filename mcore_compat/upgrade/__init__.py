"""Whether to upgrade from one cell to another: go, go with changes, or no, and why.

results → answer → document → terminal, Markdown, JSON. `validation.py` first runs what is out of
date; all other modules are pure.
"""
