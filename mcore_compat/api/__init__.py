"""The Python interface of every release of the packages, and whether code fits it."""
