"""Files, processes, errors, progress: no word of the domain."""
