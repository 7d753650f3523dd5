"""daybreak: train at night, know in the morning."""

__version__ = "0.1.0"
