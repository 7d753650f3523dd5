"""Converters: files that run in environments of their own."""
