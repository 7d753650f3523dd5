"""General MIDI's programs by name. It knows names and numbers only."""

from __future__ import annotations

from daybreak.errors import UserError, nearest

FAMILIES = (
    "piano", "chromatic_percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass",
    "reed", "pipe", "synth_lead", "synth_pad", "synth_effects", "ethnic", "percussive", "sound_effects",
)  # fmt: skip
"""Eight programs each, in General MIDI's order."""
PROGRAMS = tuple(
    """acoustic_grand_piano bright_acoustic_piano electric_grand_piano honky_tonk_piano electric_piano_1
    electric_piano_2 harpsichord clavinet celesta glockenspiel music_box vibraphone marimba xylophone tubular_bells
    dulcimer drawbar_organ percussive_organ rock_organ church_organ reed_organ accordion harmonica tango_accordion
    nylon_guitar steel_guitar jazz_guitar clean_guitar muted_guitar overdriven_guitar distortion_guitar
    guitar_harmonics acoustic_bass finger_bass pick_bass fretless_bass slap_bass_1 slap_bass_2 synth_bass_1
    synth_bass_2 violin viola cello contrabass tremolo_strings pizzicato_strings harp timpani string_ensemble_1
    string_ensemble_2 synth_strings_1 synth_strings_2 choir_aahs voice_oohs synth_voice orchestra_hit trumpet trombone
    tuba muted_trumpet french_horn brass_section synth_brass_1 synth_brass_2 soprano_sax alto_sax tenor_sax
    baritone_sax oboe english_horn bassoon clarinet piccolo flute recorder pan_flute blown_bottle shakuhachi whistle
    ocarina square_lead saw_lead calliope_lead chiff_lead charang_lead voice_lead fifths_lead bass_and_lead
    new_age_pad warm_pad polysynth_pad choir_pad bowed_pad metallic_pad halo_pad sweep_pad rain soundtrack crystal
    atmosphere brightness goblins echoes sci_fi sitar banjo shamisen koto kalimba bagpipe fiddle shanai tinkle_bell
    agogo steel_drums woodblock taiko_drum melodic_tom synth_drum reverse_cymbal guitar_fret_noise breath_noise
    seashore bird_tweet telephone_ring helicopter applause gunshot""".split()  # noqa: SIM905 - 128 names read better as a text
)
ALIASES = {
    "organ": 16, "guitar": 24, "bass": 32, "strings": 48, "brass": 61, "sax": 66, "choir": 52, "pad": 89, "lead": 81,
}  # fmt: skip
"""Everyday words and the program they mean."""
USUAL = {
    "main_melody": (0, 73, 40, 24, 68, 66),
    "sub_melody": (0, 11, 71, 42, 24),
    "accompaniment": (0, 4, 24, 46),
    "bass": (33, 32, 35),
    "pad": (48, 89, 88),
    "riff": (27, 12, 81),
}
"""Programs from which one is drawn, by role, where none is asked for."""


def program(name: str) -> int:
    """The program (0..127) of a name, a family (its first), an everyday word or a number. Raises `UserError`.

    >>> program("Violin"), program("guitar"), program("73")
    (40, 24, 73)
    """
    said = name.strip().lower().replace(" ", "_").replace("-", "_")
    if said.isdecimal():
        if int(said) > 127:
            raise UserError(f"instrument {said} is no General MIDI program; they are 0 to 127")
        return int(said)
    if said in PROGRAMS:
        return PROGRAMS.index(said)
    if said in ALIASES:
        return ALIASES[said]
    if said in FAMILIES:
        return FAMILIES.index(said) * 8
    raise UserError(f"unknown instrument {name!r}; {nearest(said, [*PROGRAMS, *FAMILIES, *ALIASES])}")
