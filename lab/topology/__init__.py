"""What a lab is made of, as data."""
