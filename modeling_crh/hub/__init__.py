"""Publish a model, codes or a search page on the Hub."""
