"""The command `coord`."""
