"""How an embedding changes the dynamics: each way a file here and a line in `metadyn.choices`."""
