"""The storage system: what it is told, what it is made of, and where it is."""
