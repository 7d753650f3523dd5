"""Figures that others published, with their source and what they were measured on. It knows numbers only."""

from __future__ import annotations

from dataclasses import dataclass

COMMU = "ComMU's validation clips"
MIDICAPS = "MidiCaps' test captions"


@dataclass(frozen=True)
class Published:
    """One row. `values` by the names that `evaluate` uses where the measure is the same, else by their own."""

    system: str
    data: str
    source: str
    values: dict[str, float]


_IMPROVED = "YAIxPOZAlabs/Improving-TrXL-for-ComMU"
_TEXT2MIDI = "Bhandari et al., Text2midi, AAAI 2025"

ROWS = (
    Published("ComMU Transformer-XL", COMMU, _IMPROVED, {
        "CP": 0.8585, "CV clip": 0.8060, "CV note": 0.9847, "CH as published": 0.9891, "diversity": 0.4100,
        "note NLL": 0.96, "CAS pitch range": 0.709, "CAS role": 0.575,
    }),
    Published("+ group encoding", COMMU, _IMPROVED, {
        "CP": 0.8493, "CV clip": 0.7391, "CV note": 0.9821, "CH as published": 0.9839, "diversity": 0.4113,
    }),
    Published("+ soft labels", COMMU, _IMPROVED, {
        "CP": 0.8807, "CV clip": 0.8007, "CV note": 0.9861, "CH as published": 0.9891, "diversity": 0.4134,
        "note NLL": 1.05,
    }),
    Published("Text2midi", MIDICAPS, _TEXT2MIDI, {"tempo": 0.397, "key": 0.336}),
    Published("MuseCoco", MIDICAPS, _TEXT2MIDI, {"tempo": 0.217, "key": 0.137}),
)  # fmt: skip
"""No row is measured on our clips: they show what the field reaches, and win or lose nothing against ours. ComMU's NLL
counts other tokens, in another vocabulary; its CAS is of another classifier (trained on real clips that one reaches
.748 on pitch range and .650 on role). Text2midi's tempo is right within a bin, its key found by another program."""
