"""Where a check changes between releases."""
