"""A relay on the data ports, which says what engines cannot."""
