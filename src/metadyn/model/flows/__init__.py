"""Families of the mean f of the dynamics; each is a file here and a line in `metadyn.choices`."""
