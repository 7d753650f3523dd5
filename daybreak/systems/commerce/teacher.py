"""A saved shop as the teacher of another: a small network learns what a larger one says of the same views.

Both see the same crops and mixtures of each photo, over many epochs [Beyer et al., 2022, "Knowledge distillation: a
good teacher is patient and consistent"]. The pupil learns the teacher's probabilities [Hinton et al., 2015], which tell
of each photo what its labels do not, and its directions in every space. It knows nothing about runs or items.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from daybreak.errors import UserError
from daybreak.systems.commerce.net import SPACES, Seen, folded
from daybreak.systems.commerce.tags import Vocabulary

NEAR = 4.0
"""What a space's mean distance from the teacher (1 - cosine) counts, beside a group's divergence in nats."""


class Teacher:
    """A saved shop's network, which learns no more."""

    def __init__(self, folder: Path, vocabulary: Vocabulary, device: torch.device | str) -> None:
        """Raises `UserError` where the shop's tags are not those of the pupil."""
        from daybreak.systems.commerce.model import Shop

        shop = Shop.load(folder)
        if shop.config.vocabulary.flat != vocabulary.flat:
            raise UserError(f"teacher: {folder} has other tags than these photos; train one on them first")
        self.vocabulary, self.side = vocabulary, shop.side
        self.net = folded(shop.net.to(device))

    @torch.no_grad()
    def __call__(self, pixels: Float[Tensor, "batch 3 height width"]) -> Seen:
        """What it says of views from 0 to 1, of whatever size."""
        return self.net(sized(pixels, self.side))  # type: ignore[no-any-return]

    def loss(self, seen: Seen, taught: Seen) -> Tensor:
        """How far the pupil's answers are from its own: divergences of the tags, a group at a time, and distances."""
        total = seen.tags.new_zeros(())
        for name, group in self.vocabulary.groups.items():
            span = self.vocabulary.span(name)
            own, goal = seen.tags[:, span].float(), taught.tags[:, span].float()
            if group.exclusive:
                each = F.kl_div(F.log_softmax(own, -1), F.log_softmax(goal, -1), reduction="none", log_target=True)
                total = total + each.sum(-1).mean()
            else:
                sure = goal.sigmoid()
                least = F.binary_cross_entropy_with_logits(goal, sure, reduction="none")  # the teacher's own entropy
                each = F.binary_cross_entropy_with_logits(own, sure, reduction="none") - least
                total = total + each.sum(-1).mean()
        for space in SPACES:
            cosine = (getattr(seen, space).float() * getattr(taught, space).float()).sum(-1)
            total = total + NEAR * (1 - cosine).mean()
        return total


def sized(pixels: Float[Tensor, "batch 3 height width"], side: int) -> Float[Tensor, "batch 3 side side"]:
    """Views at another size, without aliasing."""
    if pixels.shape[-1] == side:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
