"""The packages around the ones under test: what of them is missing, does not fit, or is off."""
