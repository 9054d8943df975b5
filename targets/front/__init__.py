"""The front: the process at the virtual port."""
