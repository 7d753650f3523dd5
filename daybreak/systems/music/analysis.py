"""Notes -> key, chords, role and metre, with how sure each is: what `extract` measures where a file says nothing.

It knows notes in twelfths of a beat; it knows nothing about networks. Its constants were chosen on POP909's training
songs alone; `docs/music.md` says how often each agrees with the annotations of songs that were held out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from daybreak.systems.music import harmony
from daybreak.systems.music import tokens as T

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
"""How well each pitch class, counted from the tonic, fits a major and a minor key (Krumhansl and Kessler, 1982)."""
SHARPNESS = 7.0
"""What correlations are multiplied by before the softmax, so that of clips of confidence 0.6 about 6 in 10 have the
annotated key."""

STAY, BASS, UNUSUAL = 0.1, 0.1, 0.1
"""Of chords, in units of cosine similarity: what a change costs; what the root in the bass is worth; what a chord
costs that is no major or minor triad."""

ROLE_PRECISION = {
    "main_melody": 0.81, "sub_melody": 0.78, "accompaniment": 0.97, "bass": 0.99, "pad": 0.92, "riff": 0.67,
}  # fmt: skip
"""Share of training clips called so that are so. The first three on real songs, the others on songs by rule: no real
song of ours has such parts, so read those three with doubt."""


def _profiles() -> Float[np.ndarray, "keys 12"]:
    """A row for each of `tokens.KEYS`, standardised."""
    rows = np.array([np.roll(mode, root) for mode in (MAJOR, MINOR) for root in range(12)])
    return np.asarray((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True))


_PROFILES = _profiles()
_CHORD_TONES = np.array([[pc in harmony.pitch_classes(chord) for pc in range(12)] for chord in range(T.CHORDS)], float)
_UNUSUAL = np.array([0, 0, *[UNUSUAL] * (len(T.QUALITIES) - 2)])


def correlations(notes: T.Notes) -> Float[np.ndarray, " keys"]:
    """Pearson correlation of the duration in each pitch class with each key's profile, in the order of `tokens.KEYS`;
    zeros where all pitch classes sound equally long, or none."""
    held = np.bincount(notes[:, 2] % 12, notes[:, 1], 12)
    spread = held.std()
    if spread < 1e-9:
        return np.zeros(len(T.KEYS))
    return np.asarray(_PROFILES @ ((held - held.mean()) / spread) / 12)


def key(notes: T.Notes) -> tuple[str, float]:
    """The key whose profile correlates best (Krumhansl, 1990), and its share of a softmax over all 24."""
    found = correlations(notes)
    share = np.exp(SHARPNESS * (found - found.max()))
    place = int(found.argmax())
    return T.KEYS[place], float(share[place] / share.sum())


def frame(beats: int) -> int:
    """Twelfths of a beat for which one chord is sought: half a bar, or a bar of an odd number of beats."""
    return beats * T.PER_BEAT // (2 if beats % 2 == 0 else 1)


def chords(notes: T.Notes, bars: int, beats: int) -> tuple[T.Changes, float]:
    """The likeliest chords, in root position, and the share of sounding time that lies within them.

    Each half bar (`frame`) is compared with the tones of every chord by cosine similarity (Fujishima, 1999); of all
    sequences the one of the highest sum is taken (Viterbi), a change costing `STAY`. Silence has the chord beside it;
    without notes there is N.
    """
    if not len(notes):
        return np.array([[0, T.NO_CHORD, 0]]), 0.0
    step = frame(beats)
    held, lowest = _frames(notes, step, bars * beats * T.PER_BEAT // step)
    length = np.sqrt((held**2).sum(1, keepdims=True))
    tones = _CHORD_TONES / np.maximum(np.sqrt(_CHORD_TONES.sum(1, keepdims=True)), 1)
    scores = held / np.maximum(length, 1e-9) @ tones.T
    roots, kinds = np.divmod(np.arange(T.NO_CHORD), len(T.QUALITIES))
    scores[:, : T.NO_CHORD] += BASS * (roots == lowest[:, None]) - _UNUSUAL[kinds]
    scores[length[:, 0] == 0] = 0
    scores[:, T.NO_CHORD] = -1.0  # where notes sound there is a chord; silence has that of its neighbours
    path = _best(scores)
    changes = np.column_stack([np.arange(len(path)) * step, path, path // len(T.QUALITIES) % len(T.ROOTS)])
    within = float((held * _CHORD_TONES[path]).sum() / held.sum())
    return T.tidy_chords(changes, bars * beats * T.PER_BEAT), within


def _frames(notes: T.Notes, step: int, count: int) -> tuple[Float[np.ndarray, "f 12"], Int[np.ndarray, " f"]]:
    """For each frame the time that each pitch class sounds, and the pitch class of the lowest note (-1: none)."""
    held, lowest = np.zeros((count, 12)), np.full(count, 128)
    onset, end, pitch = notes[:, 0], notes[:, 0] + notes[:, 1], notes[:, 2]
    for n in range(count):
        sounding = np.minimum(end, (n + 1) * step) - np.maximum(onset, n * step)
        here = sounding > 0
        held[n] = np.bincount(pitch[here] % 12, sounding[here], 12)
        lowest[n] = pitch[here].min(initial=128)
    return held, np.where(lowest < 128, lowest % 12, -1)


def _best(scores: Float[np.ndarray, "frames chords"]) -> Int[np.ndarray, " frames"]:
    """The sequence of the highest sum."""
    total, back = scores[0], []
    for line in scores[1:]:
        best = int(total.argmax())
        stays = total >= total[best] - STAY
        back.append(np.where(stays, np.arange(len(total)), best))
        total = np.where(stays, total, total[best] - STAY) + line
    path = [int(total.argmax())]
    for before in reversed(back):
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


@dataclass(frozen=True)
class Texture:
    """What tells roles apart."""

    mean: float
    """Mean pitch."""
    together: float
    """Notes at one onset."""
    voices: float
    """Notes that sound at once, where any does."""
    length: float
    """Median note, in beats."""
    repeats: float
    """Share of the bars with notes that are equal to an earlier one, transposition aside."""
    density: float
    """Notes a beat."""
    filled: float
    """Share of the time in which a note sounds."""


def texture(notes: T.Notes, bars: int, beats: int) -> Texture:
    """Measure a part. There must be a note."""
    bar = beats * T.PER_BEAT
    onset, duration, pitch = notes[:, 0], notes[:, 1], notes[:, 2]
    edges = np.zeros(bars * bar + 1, np.int64)
    np.add.at(edges, onset, 1)
    np.add.at(edges, np.minimum(onset + duration, bars * bar), -1)
    sounding = int((np.cumsum(edges)[:-1] > 0).sum())
    seen = Counter()  # type: ignore[var-annotated]
    for number in np.unique(onset // bar):
        here = onset // bar == number
        seen[tuple(zip((onset[here] % bar).tolist(), (pitch[here] - pitch[here].min()).tolist(), strict=True))] += 1
    return Texture(
        mean=float(pitch.mean()),
        together=len(notes) / len(np.unique(onset)),
        voices=float(duration.sum()) / max(1, sounding),
        length=float(np.median(duration)) / T.PER_BEAT,
        repeats=1 - len(seen) / seen.total(),
        density=len(notes) / (bars * beats),
        filled=sounding / (bars * bar),
    )


def role(notes: T.Notes, bars: int, beats: int) -> tuple[str, float]:
    """The role that a part's texture suggests, and how often such a call is right (`ROLE_PRECISION`)."""
    t = texture(notes, bars, beats)
    if t.together >= 1.3 or t.voices >= 1.6:
        found = "pad" if t.length >= 2.5 else "accompaniment" if t.mean < 68 else "sub_melody"
    elif t.mean < 48:
        found = "bass"
    elif t.repeats >= 0.5 and t.density >= 2.5:
        found = "riff"
    elif t.mean < 63 and t.density >= 1.5:
        found = "accompaniment"
    else:
        found = "sub_melody" if t.voices > 1.05 or t.filled < 0.5 else "main_melody"
    return found, ROLE_PRECISION[found]
