"""Packages around the ones under test: which are missing, do not fit, or switch a feature off."""
