"""Blocks that two systems or more share. No training code."""
