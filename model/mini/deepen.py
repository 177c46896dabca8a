"""A deeper network that computes the same as a trained one: where training goes on when width and depth are used up."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.network import MiniNetwork

LAST_OF_BRANCH = ("attention.out.weight", "attention.out.bias", "mlp_out.weight", "mlp_out.bias")


def deepened(tensors: dict[str, Tensor], config: MiniConfig, depth: int) -> tuple[dict[str, Tensor], MiniConfig]:
    """Append layers whose branches end in zeros (Chen et al. 2016, "Net2Net"; the new weights come from one seed).

    Args:
        tensors: state of a `MiniNetwork` of `config`.
        depth: of the new network.

    Returns:
        (its state in float32, its config).

    Raises:
        UserError: the network is that deep already, or `depth` is odd.
    """
    if depth <= config.depth:
        raise UserError(f"the network has {config.depth} layers already; name more than that, not {depth}")
    deeper = replace(config, depth=depth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = MiniNetwork(deeper).state_dict()
    for name, tensor in state.items():
        if name in tensors:
            state[name] = tensors[name].float()
        elif name.endswith(LAST_OF_BRANCH):
            state[name] = torch.zeros_like(tensor)
    return state, deeper
