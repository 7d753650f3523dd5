"""Muon: momentum, orthogonalised (Jordan et al., 2024), for the matrices inside a network.

An update has the direction of the momentum's nearest orthogonal matrix, scaled to the root mean square of AdamW's
updates (Liu et al., 2025, section 2.2), so that learning rate and decay are those of AdamW. In 32 bits: torch's own
computes in bfloat16, which is slow on processors without it. Embeddings, norms and heads want AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: fast towards singular values near 1, not exactly 1."""
STEPS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay. A tall matrix whose height is a multiple of its width is
    taken as square matrices one above the other: queries, keys and values in one weight are three."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 2:
                    raise ValueError(f"Muon is for matrices, not for a weight of shape {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one update."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                held = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(held, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * group["lr"])


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """About the nearest orthogonal matrix (of each square part), times the root of the greater side: entries near 1."""
    rows, columns = matrix.shape
    parts = rows // columns if rows > columns and rows % columns == 0 else 1
    x = matrix.view(parts, rows // parts, columns)
    flat = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if flat else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    x = x.transpose(1, 2) if flat else x
    made: Tensor = x.reshape(rows, columns) * max(rows // parts, columns) ** 0.5
    return made
