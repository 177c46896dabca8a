"""Points of an instant as several views see them, in whatever coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class SeenPoints:
    """N points in V views.

    Attributes:
        places: [V, N, ...], where each view has them.
        visible: [V, N] bool.
        colours: [N, 3] in [0, 1].
    """

    places: Tensor
    visible: Tensor
    colours: Tensor

    def __getitem__(self, index: Tensor) -> Self:
        """Some of the points."""
        return type(self)(self.places[:, index], self.visible[:, index], self.colours[index])

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Points of several sources."""
        return cls(
            torch.cat([part.places for part in parts], dim=1),
            torch.cat([part.visible for part in parts], dim=1),
            torch.cat([part.colours for part in parts]),
        )
