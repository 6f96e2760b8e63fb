"""What changes between releases in the interfaces that callers use."""
