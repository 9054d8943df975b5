"""I/O loads of hosts."""
