"""Recommend: what a person or a basket may want next, from a log of views and purchases, with the reason."""
