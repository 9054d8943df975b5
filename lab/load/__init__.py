"""Loads: what hosts do to their disks."""
