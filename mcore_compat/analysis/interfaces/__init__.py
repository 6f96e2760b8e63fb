"""Changes between releases in the interfaces that callers use."""
