"""Derived files as a dandiset: metadata, paths, checks and upload."""
