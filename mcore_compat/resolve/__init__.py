"""Lock files, and which combinations cannot be installed."""
