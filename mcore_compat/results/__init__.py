"""Results: their format, their files, and how they are compared."""
