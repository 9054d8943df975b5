"""The front: what answers at the virtual port."""
