"""Several processes of one run (`accelerate launch`, `torchrun`): who am I, and waiting for the others."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from viewtime.errors import UserError


@dataclass(frozen=True)
class Processes:
    """Rank and number of processes; one alone without a launcher."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes what all share."""
        return self.rank == 0

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.world > 1:
            torch.distributed.barrier()


def join_processes() -> Processes:
    """Join the processes that the launcher's environment variables describe.

    Windows travel through the run folder, so that it must be one that all processes see; nothing but barriers goes
    over the network, for which gloo serves on the CPU and beside CUDA alike.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    if "RANK" not in os.environ:
        raise UserError("WORLD_SIZE is set but RANK is not; start with accelerate launch or torchrun")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return Processes(torch.distributed.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))
