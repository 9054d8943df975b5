"""Faults, each a context manager that is recorded on the timeline and undone at its end."""
