"""Faults: context managers. Each is recorded on the timeline and undone at its end."""
