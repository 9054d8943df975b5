"""What guests run: put into /run/lab at boot."""
