"""Target engines and the virtual port."""
