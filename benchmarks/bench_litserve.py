"""LitServe's trivial action."""

from __future__ import annotations

import litserve as ls


class Api(ls.LitAPI):  # type: ignore[misc,no-any-unimported]
    """Doubles a number."""

    def setup(self, device: str) -> None:
        self.factor = 2

    def decode_request(self, request: dict[str, float]) -> float:
        return request["x"]

    def predict(self, x: float) -> float:
        return self.factor * x

    def encode_response(self, output: float) -> dict[str, float]:
        return {"y": output}
