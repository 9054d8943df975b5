"""The scenarios as tests of pytest."""
