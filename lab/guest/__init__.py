"""Kernels of their own: images, boot, and commands in them."""
