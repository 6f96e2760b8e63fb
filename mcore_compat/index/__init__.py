"""The one place that talks to the package index."""
