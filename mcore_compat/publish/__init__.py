"""Results → what a person or a tool reads."""
