"""What runs showed: its format, how it is kept, how it is compared."""
