"""A host: its initiators, its disks, and how a scenario acts on it."""
