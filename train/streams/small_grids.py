"""A stream for upsamplers: another stream's batches with `cond["small"]`, the grid shrunk by a factor.

What it enlarges when it samples is another model's grid, with that model's errors. Noise on the small grids makes it
rely on them less (Ho et al. 2022, "Cascaded diffusion models", section 4.2); how much is drawn for each grid, and the
network is not told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.four_real.upsampler import shrink
from viewtime.train.registry import STREAMS, BatchStream, resolve


class SmallGrids:
    """See the module; position and order are the inner stream's.

    Args:
        noise: largest standard deviation of the noise, drawn evenly from 0, of values in [-1, 1].
        seed: of the noise.
    """

    def __init__(self, inner: BatchStream, factor: int, noise: float = 0.0, seed: int = 0) -> None:
        self.inner, self.factor, self.noise, self.seed = inner, factor, noise, seed
        self.drawn = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for raw in self.inner:
            batch = dict(raw) if isinstance(raw, dict) else dict(vars(raw))
            height, width = batch["x0"].shape[-2:]
            if height % self.factor or width % self.factor:
                raise UserError(f"grids of {height} x {width} pixels cannot be shrunk {self.factor} times")
            small = self.disturbed(shrink(batch["x0"], self.factor))
            self.drawn += 1
            yield batch | {"cond": {**batch["cond"], "small": small}}

    def disturbed(self, small: Tensor) -> Tensor:
        """The small grids of the next batch with their noise; [B, V, F, C, h, w]."""
        if not self.noise:
            return small
        generator = torch.Generator().manual_seed(self.seed + (self.drawn << 32))
        level = self.noise * torch.rand(len(small), 1, 1, 1, 1, 1, generator=generator)
        return small + level * torch.randn(small.shape, generator=generator)

    def state_dict(self) -> dict[str, Any]:
        """Of the inner stream, and how many batches were drawn."""
        return {"inner": self.inner.state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.inner.load_state_dict(state["inner"])
        self.drawn = state["drawn"]


def with_small_grids(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> SmallGrids:
    """Factory: `factor`, `noise` (0 without), `of` (name of the inner stream, "grids" by default), and the inner
    stream's options.

    Raises:
        UserError: no factor, or one that is no whole number above 0; a noise below 0.
    """
    factor = options.get("factor")
    if not isinstance(factor, int) or factor < 1:
        raise UserError(f"data.options.factor is {factor}; give a whole number, how many times smaller the grids are")
    noise = options.get("noise", 0.0)
    if not isinstance(noise, (int, float)) or noise < 0:
        raise UserError(f"data.options.noise is {noise}; give a standard deviation, or 0 for none")
    inner_options = {key: value for key, value in options.items() if key not in ("factor", "noise", "of")}
    factory = resolve(options.get("of", "grids"), STREAMS, "stream")
    inner = factory(inner_options, batch_size=batch_size, seed=seed, rank=rank, world=world)
    return SmallGrids(inner, factor, noise, seed * world + rank)
