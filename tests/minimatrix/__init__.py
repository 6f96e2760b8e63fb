"""The whole program on a dozen toy cells: toy packages, a toy index, a toy suite, in seconds."""
