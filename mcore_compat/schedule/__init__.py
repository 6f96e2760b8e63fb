"""Which cells, in what order, where."""
