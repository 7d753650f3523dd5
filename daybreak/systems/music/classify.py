"""The classification accuracy score (CAS; Ravuri and Vinyals, NeurIPS 2019): do composed clips teach what real ones do?

A classifier is trained on composed clips alone and tested on real ones; trained on as many real clips it shows what is
to be reached. Ours is multinomial logistic regression on a clip's features. It knows notes; no networks of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn import functional as F

from daybreak.systems.music import tokens as T
from daybreak.systems.music.analysis import texture

DECAY, STEPS = 1e-2, 200
"""Weight of the squared weights in the loss, and iterations of L-BFGS at most."""


def features(notes: T.Notes, bars: int, beats: int) -> Float[np.ndarray, " features"]:
    """What the classifier sees: the seven numbers of a texture, and the shares of notes by octave (11), by pitch class
    (12), by place in the beat (12) and by length (up to a half, one, two, four beats, longer)."""
    t = texture(notes, bars, beats)
    onset, duration, pitch = notes[:, 0], notes[:, 1], notes[:, 2]
    shares = [
        np.bincount(pitch // 12, minlength=11),
        np.bincount(pitch % 12, minlength=12),
        np.bincount(onset % T.PER_BEAT, minlength=T.PER_BEAT),
        np.bincount(np.searchsorted((6, 12, 24, 48), duration), minlength=5),
    ]
    numbers = [t.mean / 12, t.together, t.voices, t.length, t.repeats, t.density, t.filled]
    return np.concatenate([numbers, *(share / len(notes) for share in shares)])


def accuracy(
    train: Sequence[np.ndarray], labels: Sequence[str], test: Sequence[np.ndarray], truth: Sequence[str]
) -> Bool[np.ndarray, " test"]:
    """Which test clips a classifier trained on `train` calls as they are. Deterministic: the loss is convex.

    Features are standardised by the training clips; one that never varies there is left out.
    """
    names = sorted(set(labels))
    rows, others = np.stack(train), np.stack(test)
    middle, spread = rows.mean(0), rows.std(0)
    kept = spread > 1e-9
    x, unseen = ((part[:, kept] - middle[kept]) / spread[kept] for part in (rows, others))
    inputs = torch.from_numpy(x)
    targets = torch.tensor([names.index(label) for label in labels])
    weight = torch.zeros(len(names), x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(inputs @ weight.T + bias, targets) + DECAY * (weight**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = (torch.from_numpy(unseen) @ weight.T + bias).argmax(1).tolist()
    return np.array([names[place] == label for place, label in zip(found, truth, strict=True)])
