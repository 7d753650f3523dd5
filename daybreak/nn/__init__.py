"""Pieces of networks and of their training that several systems share."""
