"""Media: sounds, pictures, scores and text as values. Reading, writing, showing; no learning.

Every media type is immutable and knows five things: its MIME type, its file suffix, its bytes, how to come back
from bytes, and how to show itself in a page without fetching anything.
"""

from daybreak.media.base import Media

__all__ = ["Media"]
