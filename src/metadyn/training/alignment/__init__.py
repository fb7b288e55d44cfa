"""A new session joins a trained model; nothing that the sessions share is changed."""
