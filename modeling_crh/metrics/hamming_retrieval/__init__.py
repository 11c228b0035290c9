"""The retrieval figures as a module of `evaluate`."""
