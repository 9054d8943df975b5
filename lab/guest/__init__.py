"""Guests: their images, their boot, and commands in them."""
