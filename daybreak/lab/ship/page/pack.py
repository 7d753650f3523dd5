"""Binary data in a page: gzip, then 15 bits a letter. It knows bytes and text.

The page is UTF-16, which its byte order mark says louder than any server's header. Letters from U+3400 to U+B3FF pass
through HTML unchanged, so that 15 of 16 bits carry data: a quarter less than base64 takes.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FIRST = 0x3400
BITS = 15
CHUNK = 15 * 2**17
"""Bytes that are turned into letters at once: a multiple of 15, so that chunks join."""


def letters(data: bytes) -> str:
    """Bytes as letters of 15 bits; the last is filled with zeros."""
    made = []
    places = 1 << np.arange(BITS - 1, -1, -1, dtype=np.uint16)
    for start in range(0, len(data), CHUNK):
        bits = np.unpackbits(np.frombuffer(data[start : start + CHUNK], np.uint8))
        filled = np.concatenate([bits, np.zeros(-len(bits) % BITS, np.uint8)]).reshape(-1, BITS)
        made.append((filled.astype(np.uint16) @ places + np.uint16(FIRST)).astype("<u2").tobytes())
    return b"".join(made).decode("utf-16-le")


def packed(files: Mapping[str, bytes], floats: Mapping[str, Sequence[tuple[int, int]]]) -> tuple[str, dict[str, Any]]:
    """Files as one text, and the index that finds them in it.

    `floats`: for some files, the places (start, size) of their fp32 weights. Those that 16 bits hold exactly, as
    weights that were shipped in half precision are, travel as 16 bits.
    """
    whole = bytearray()
    index = []
    for name, data in files.items():
        parts = []
        for start, stop, half in _stretches(data, floats.get(name, ())):
            piece = data[start:stop]
            if half:
                piece = np.frombuffer(piece, "<f4").astype("<f2").tobytes()
            zipped = gzip.compress(piece, 9, mtime=0)
            parts.append({"at": len(whole), "size": len(zipped), "half": half})
            whole += zipped
        index.append({"name": name, "parts": parts})
    return letters(bytes(whole)), {"files": index, "packed": len(whole)}


def _stretches(data: bytes, places: Sequence[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """The file cut where its kind changes: start, stop, and whether 16 bits hold it."""
    cuts: list[tuple[int, int, bool]] = []
    at = 0
    for start, size in sorted(places):
        if size % 4 or not _exact(np.frombuffer(data[start : start + size], "<f4")):
            continue
        if start > at:
            cuts.append((at, start, False))
        cuts.append((start, start + size, True))
        at = start + size
    if at < len(data):
        cuts.append((at, len(data), False))
    return _joined(data, cuts)


def _joined(data: bytes, cuts: Sequence[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    """Neighbours of one kind together; padding of zeros between weights counts as theirs."""
    out: list[tuple[int, int, bool]] = []
    for start, stop, half in cuts:
        if not half and out and out[-1][2] and not any(data[start:stop]) and (stop - start) % 4 == 0:
            half = True
        if out and out[-1][2] == half:
            out[-1] = (out[-1][0], stop, half)
        else:
            out.append((start, stop, half))
    return out


def _exact(weights: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        back = weights.astype(np.float16).astype(np.float32)
    return bool(np.array_equal(back.view(np.uint32), weights.view(np.uint32)))
