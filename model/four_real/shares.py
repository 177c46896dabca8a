"""One grid over several processes (context parallelism): each holds some of its views, for a while some of its frames.

Everything but attention along views works on cells or on rows, and so on a process's own views. Before attention along
views the tokens change hands, so that each process holds all views of some of the frames, and after it they go back:
two exchanges a layer (DTensor, Shard to Shard: an all-to-all), and two in the backward pass. Of the result, pixels,
every process gets the whole.

Every collective's backward pass is its adjoint: averaged over the processes, gradients are those of one process.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Shard

from viewtime.errors import UserError

VIEWS, FRAMES = 1, 2  # axes of [B, V, F, ...]


@dataclass(frozen=True)
class GridShares:
    """Which of a grid's views and frames this process holds: equal runs of them, in the order of the processes.

    Attributes:
        mesh: of one dimension, the processes that share each grid.
    """

    mesh: DeviceMesh

    def check(self, views: int, frames: int) -> None:
        """Raise UserError where a grid cannot be divided."""
        size = self.mesh.size()
        if views % size or frames % size:
            raise UserError(
                f"{size} processes cannot share a grid of {views} views x {frames} frames; context_parallel must "
                "divide both"
            )

    def own(self, x: Tensor, axis: int) -> Tensor:
        """This process's part of what every process has whole."""
        return x.chunk(self.mesh.size(), axis)[self.mesh.get_local_rank()]

    def exchange(self, x: Tensor, held: int, wanted: int) -> Tensor:
        """From a part along one axis to the part along another; a collective call."""
        part = DTensor.from_local(x.contiguous(), self.mesh, [Shard(held)], run_check=False)
        return part.redistribute(placements=[Shard(wanted)]).to_local()

    def whole(self, x: Tensor, held: int) -> Tensor:
        """All parts along an axis together; a collective call."""
        part = DTensor.from_local(x.contiguous(), self.mesh, [Shard(held)], run_check=False)
        return part.full_tensor(grad_placements=[Partial()])
