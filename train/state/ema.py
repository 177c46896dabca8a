"""Power-function EMA of the weights, several lengths side by side (EDM2, section 3.1 and appendix C).

The averages follow whatever part of a parameter this process holds, so ZeRO-3 and FSDP2 average their shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from .shards import local_part, master_part, write_part


def gamma_from_sigma_rel(sigma_rel: float) -> float:
    """Exponent gamma whose averaging profile has relative standard deviation sigma_rel (EDM2, Eq. 126).

    The only root above −1 of (γ+1)/((γ+2)²(γ+3)) = sigma_rel².
    """
    inverse = sigma_rel**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def power_beta(gamma: float, samples: int, new_samples: int) -> float:
    """Factor on the old average after `samples` samples, `new_samples` of them since the last update."""
    return (1 - new_samples / samples) ** (gamma + 1)


class PowerEma:
    """Averages of a module's trainable parameters, float32: of the masters where a strategy trains rounded copies.

    Attributes:
        lengths: relative widths sigma_rel.
        averages: for each length, parameter name -> tensor.
    """

    def __init__(self, module: nn.Module, lengths: Iterable[float]) -> None:
        self.lengths = list(lengths)
        self.gammas = [gamma_from_sigma_rel(length) for length in self.lengths]
        self.names = [name for name, p in module.named_parameters() if p.requires_grad]
        self.averages = [
            {name: master_part(p).detach().clone() for name, p in module.named_parameters() if p.requires_grad}
            for _ in self.lengths
        ]

    @torch.no_grad()
    def update(self, module: nn.Module, samples: int, new_samples: int) -> None:
        """Average the current weights in.

        Args:
            samples: seen in the run so far, all processes.
            new_samples: since the last update.
        """
        parameters = dict(module.named_parameters())
        current = [master_part(parameters[name]).detach() for name in self.names]
        for gamma, averages in zip(self.gammas, self.averages):
            share = 1 - power_beta(gamma, samples, min(new_samples, samples))
            torch._foreach_lerp_([averages[name] for name in self.names], current, share)

    def of(self, length: float) -> dict[str, Tensor]:
        """The averages of one length."""
        return self.averages[self.lengths.index(length)]

    def state_dict(self) -> dict[str, Tensor]:
        """Flat, for safetensors: "<length>/<name>" -> tensor."""
        return {
            f"{length}/{name}": tensor
            for length, averages in zip(self.lengths, self.averages)
            for name, tensor in averages.items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy a state of the same lengths and names in; KeyError or RuntimeError otherwise."""
        for key, tensor in self.state_dict().items():
            tensor.copy_(state[key])

    @contextmanager
    def swapped_in(self, module: nn.Module, length: float) -> Iterator[None]:
        """The module with the averaged weights inside the block."""
        parameters = dict(module.named_parameters())
        averages = self.of(length)
        kept = {name: local_part(parameters[name]).detach().clone() for name in self.names}
        try:
            with torch.no_grad():
                for name in self.names:
                    write_part(parameters[name], averages[name])
            yield
        finally:
            with torch.no_grad():
                for name in self.names:
                    write_part(parameters[name], kept[name])
