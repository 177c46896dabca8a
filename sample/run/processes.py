"""Several processes of one run (`accelerate launch`, `torchrun`): who am I, and waiting for the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from viewtime.errors import UserError


@dataclass(frozen=True)
class Half:
    """One of two processes that sample a window together, each evaluating one branch of guidance.

    Attributes:
        number: 0 (the unconditional branch) or 1 (the conditional one).
        group: of the two, for torch.distributed.
    """

    number: int
    group: Any

    def exchange(self, mine: Tensor) -> tuple[Tensor, Tensor]:
        """Both branches' predictions, the unconditional one first, like `mine`; they travel through the host."""
        here = mine.detach().cpu().contiguous()
        both = [torch.empty_like(here), torch.empty_like(here)]
        torch.distributed.all_gather(both, here, group=self.group)
        return both[0].to(mine), both[1].to(mine)


@dataclass(frozen=True)
class Processes:
    """Rank and number of processes; one alone without a launcher.

    Attributes:
        pair: what this process is in its pair; None where the number of processes is odd and this is the last.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    pair: Half | None = None

    def share(self, windows: int, guided: bool) -> tuple[int, int, Half | None]:
        """(number of teams, this process's team, its half of it) for that many windows at once.

        Pairs where there are at least two processes for each window and guidance has two branches to share, otherwise
        each process is a team. A process without a partner, where others pair, gets a team of no windows.
        """
        if not guided or 2 * windows > self.world:
            return self.world, self.rank, None
        return self.world // 2, self.rank // 2, self.pair

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

    Windows travel through the run folder, so that it must be one that all processes see. Barriers and the two
    predictions of a pair, a few megabytes a step, go over the network, for which gloo serves on the CPU and beside CUDA
    alike.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    if "RANK" not in os.environ:
        raise UserError("WORLD_SIZE is set but RANK is not; start with accelerate launch or torchrun")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    groups = [torch.distributed.new_group([first, first + 1]) for first in range(0, world - 1, 2)]
    pair = Half(rank % 2, groups[rank // 2]) if rank // 2 < len(groups) else None
    return Processes(rank, world, int(os.environ.get("LOCAL_RANK", "0")), pair)
