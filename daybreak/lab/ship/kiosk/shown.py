"""An answer on a screen: HTML that holds everything it needs. Every string is escaped.

It knows answers; it knows nothing about where they stand.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape
from typing import Any

from pydantic import BaseModel

from daybreak.media import Media

LARGEST = 8 * 2**20
"""Bytes of a file that can be taken home from the page."""


def html(value: Any, name: str = "answer") -> str:
    """A value as HTML: media play or show, records are lists of their fields."""
    if isinstance(value, Media):
        return f'<div class="media">{value.html()}{_link(value, name)}</div>'
    if isinstance(value, BaseModel):
        return _record({key: getattr(value, key) for key in type(value).model_fields})
    if isinstance(value, Mapping):
        return _record({str(key): item for key, item in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        if all(isinstance(item, (str, int, float, bool)) for item in value):
            return f"<p>{', '.join(word(item) for item in value) or '-'}</p>"
        if value and all(isinstance(item, BaseModel) and _flat(item) for item in value):
            return _table([{key: getattr(item, key) for key in type(item).model_fields} for item in value])
        return "<ol>" + "".join(f"<li>{html(item, name)}</li>" for item in value) + "</ol>"
    return f"<p>{word(value)}</p>"


def word(value: Any) -> str:
    """A plain value, escaped."""
    if isinstance(value, bool):
        return "✓" if value else "-"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-"
    return "-" if value is None or value == "" else escape(str(value))


def _flat(item: BaseModel) -> bool:
    return all(isinstance(getattr(item, key), (str, int, float, bool, type(None))) for key in type(item).model_fields)


def _record(fields: Mapping[str, Any]) -> str:
    rows = (f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{html(item, key)}</dd>" for key, item in fields.items())
    return f"<dl>{''.join(rows)}</dl>"


def _table(rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{word(item)}</td>" for item in row.values()) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _link(value: Media, name: str) -> str:
    data = value.to_bytes()
    if len(data) > LARGEST:
        return ""
    address = f"data:{escape(value.mime)};base64,{base64.b64encode(data).decode()}"
    file = escape(f"{name}{value.suffix}", quote=True)
    return f'<a download="{file}" href="{address}">↓ {file}</a>'
