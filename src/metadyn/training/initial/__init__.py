"""First weights from the data alone, and pre-training on the latents that they give."""
