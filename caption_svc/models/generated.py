"""Tokens as they come out of a decoder, before they are words. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Generated:
    """An image's generated tokens, the end token included and the prompt left out.

    `probabilities` holds the softmax probability of each token given those before it; `ended` says that the end token
    came.
    """

    tokens: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    ended: bool = False

    def add(self, token: int, probability: float, end_token: int) -> None:
        """Append one token. Nothing may follow the end token."""
        self.tokens.append(token)
        self.probabilities.append(probability)
        self.ended = token == end_token

    @property
    def words(self) -> Sequence[int]:
        """The tokens that become text."""
        return self.tokens[:-1] if self.ended else self.tokens

    @property
    def confidence(self) -> float:
        """Arithmetic mean of the probabilities, 0 to 1; 0 for no token at all, NaN from a model that answered NaN."""
        if not self.probabilities:
            return 0.0
        mean = sum(self.probabilities) / len(self.probabilities)
        return mean if math.isnan(mean) else min(1.0, mean)
