"""How an embedding changes the dynamics; each way is a file here and a line in `metadyn.choices`."""
