"""The target engine LIO, the kernel's own."""
