"""Distributions of the observations, given the latents.

Each is a file here and a line in `metadyn.choices`.
"""
