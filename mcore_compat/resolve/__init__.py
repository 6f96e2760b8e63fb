"""Lock files, and the check which combinations can be installed."""
