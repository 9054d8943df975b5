"""The target engine LIO, which is part of the Linux kernel."""
