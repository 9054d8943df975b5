"""The catalogue: one file per family of scenarios."""
