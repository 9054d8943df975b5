"""What answers at the virtual port."""
