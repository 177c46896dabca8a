"""A stream for upsamplers: another stream's batches with `cond["small"]`, the grid shrunk by a factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from viewtime.errors import UserError
from viewtime.model.four_real.upsampler import shrink
from viewtime.train.registry import STREAMS, BatchStream, resolve


class SmallGrids:
    """See the module; position and order are the inner stream's."""

    def __init__(self, inner: BatchStream, factor: int) -> None:
        self.inner, self.factor = inner, factor

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for raw in self.inner:
            batch = dict(raw) if isinstance(raw, dict) else dict(vars(raw))
            height, width = batch["x0"].shape[-2:]
            if height % self.factor or width % self.factor:
                raise UserError(f"grids of {height} x {width} pixels cannot be shrunk {self.factor} times")
            batch["cond"] = {**batch["cond"], "small": shrink(batch["x0"], self.factor)}
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Of the inner stream."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the inner stream."""
        self.inner.load_state_dict(state)


def with_small_grids(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> SmallGrids:
    """Factory: `factor`, `of` (name of the inner stream, "grids" by default), and the inner stream's options.

    Raises:
        UserError: no factor, or one that is no whole number above 0.
    """
    factor = options.get("factor")
    if not isinstance(factor, int) or factor < 1:
        raise UserError(f"data.options.factor is {factor}; give a whole number, how many times smaller the grids are")
    inner_options = {key: value for key, value in options.items() if key not in ("factor", "of")}
    factory = resolve(options.get("of", "grids"), STREAMS, "stream")
    inner = factory(inner_options, batch_size=batch_size, seed=seed, rank=rank, world=world)
    return SmallGrids(inner, factor)
