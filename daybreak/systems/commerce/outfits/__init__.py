"""Outfits: which things go together, learned from sets that people put together."""
