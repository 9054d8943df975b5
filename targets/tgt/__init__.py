"""The target engine tgt."""
