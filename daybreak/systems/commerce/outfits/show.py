"""An outfit as a picture: its pieces by name, the one that is hidden, and what the network would put there."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from daybreak.media.svg import Svg
from daybreak.systems.commerce.outfits.pieces import Outfit

WIDTH, LINE = 340, 20


def blank(outfit: Outfit, place: int, likeliest: Sequence[str] | None = None) -> Svg:
    """A list of the pieces. Without `likeliest` the hidden one is shown; with it, what was thought likeliest."""
    hidden = outfit.pieces[place]
    lines = []
    for n, piece in enumerate(outfit.pieces):
        if n != place:
            lines.append(("#333", f"{piece.category}{': ' + piece.title if piece.title else ''}"))
    if likeliest is None:
        lines.append(("#06c", f"and: {hidden.category}"))
    else:
        lines.append(("#777", "likeliest beside them:"))
        lines += [
            ("#070" if name == hidden.category else "#a40", f"{n}. {name}") for n, name in enumerate(likeliest, 1)
        ]
    rows = "".join(
        f'<text x="8" y="{LINE * (n + 1)}" fill="{colour}">{escape(text)}</text>'
        for n, (colour, text) in enumerate(lines)
    )
    height = LINE * (len(lines) + 1)
    return Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-size="14" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="#fff"/>{rows}</svg>'
    )
