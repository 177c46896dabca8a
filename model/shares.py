"""One grid over several processes (context parallelism): each holds some of its views, for a while all of some part.

A layer that takes cells or rows one by one works on a process's own views. Before a layer that mixes views the
activations change hands, so that each process holds all views of some of the frames, or of some of the pixels, and
after it they go back: two exchanges (DTensor, Shard to Shard: an all-to-all), and two in the backward pass. Of the
result every process gets the whole.

Every collective's backward pass is its adjoint: averaged over the processes, gradients are those of one process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Shard

from viewtime.errors import UserError


@dataclass(frozen=True)
class GridShares:
    """Which part of a grid this process holds: equal runs of its views, in the order of the processes.

    Attributes:
        mesh: of one dimension, the processes that share each grid.
    """

    mesh: DeviceMesh

    def check(self, **sizes: int) -> None:
        """Raise UserError where one of a grid's sizes, named as the user knows it, cannot be divided evenly."""
        count = self.mesh.size()
        if any(size % count for size in sizes.values()):
            grid = " x ".join(f"{size} {name}" for name, size in sizes.items())
            common = math.gcd(*sizes.values())
            fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
            raise UserError(
                f"{count} processes cannot share a grid of {grid}: context_parallel must divide {' and '.join(sizes)}; "
                f"set it to one of: {fitting}"
            )

    def check_parts(self, **sizes: int) -> None:
        """Raise UserError where an axis, whose parts need not be equal, leaves a process without any."""
        count = self.mesh.size()
        for name, size in sizes.items():
            if (count - 1) * math.ceil(size / count) >= size:
                raise UserError(
                    f"{count} processes cannot share a grid of {size} {name}, as the last would have none; "
                    "set context_parallel lower"
                )

    def own(self, x: Tensor, axis: int) -> Tensor:
        """This process's part of what every process has whole."""
        return x.chunk(self.mesh.size(), axis)[self.mesh.get_local_rank()]

    def exchange(self, x: Tensor, held: int, wanted: int, size: int | None = None) -> Tensor:
        """From a part along one axis to the part along another; a collective call.

        Args:
            size: of the whole along `held`; by default as if all parts were as large as this one.
        """
        shape = list(x.shape)
        shape[held] = size or self.mesh.size() * shape[held]
        stride = torch.empty(shape, device="meta").stride()
        part = DTensor.from_local(
            x.contiguous(), self.mesh, [Shard(held)], run_check=False, shape=torch.Size(shape), stride=stride
        )
        return part.redistribute(placements=[Shard(wanted)]).to_local()

    def through(self, layer: Callable[[Tensor], Tensor], x: Tensor, held: int, wanted: int) -> Tensor:
        """A layer that mixes what is divided: called with the part along `wanted`, its result brought back.

        Args:
            layer: keeps the sizes of both axes.
            x: the part along `held`.
        """
        return self.exchange(layer(self.exchange(x, held, wanted)), wanted, held, x.shape[wanted])

    def whole(self, x: Tensor, held: int) -> Tensor:
        """All parts along an axis together, which are equally large; a collective call."""
        part = DTensor.from_local(x.contiguous(), self.mesh, [Shard(held)], run_check=False)
        return part.full_tensor(grad_placements=[Partial()])
