"""Distributions of the observations, given the latents; each is a file here and a line in `metadyn.choices`."""
