"""Topologies: one file each, with a drawing."""
