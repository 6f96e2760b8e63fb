"""A part of its own: asked by `--checks`, it has no other file."""
