"""Serve: registered models over HTTP, derived from their types. It knows models; it knows no system."""

from daybreak.lab.ship.named import Named
from daybreak.lab.ship.serve.app import Limits, Service

__all__ = ["Limits", "Named", "Service"]
