"""Measurements behind the README's figures; side by side with what a user would otherwise do."""
