"""Faults, each a context manager that is recorded and undone."""
