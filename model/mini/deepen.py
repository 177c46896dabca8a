"""A deeper network that computes the same as a trained one: where training goes on when width and depth are used up."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from viewtime.errors import UserError
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.network import MiniNetwork

LAST_OF_BRANCH = re.compile(r"layers\.\d+\.(attention\.out|mlp_out)\.(weight|bias)")
INTO_TOKENS = re.compile(r"position|(encoder\.down_quarter|camera_to_tokens|embed_frame)\.(weight|bias)")


def deepened(tensors: dict[str, Tensor], config: MiniConfig, depth: int) -> tuple[dict[str, Tensor], MiniConfig]:
    """Append layers whose branches end in zeros (Chen et al. 2016, "Net2Net"; the new weights come from one seed).

    In long training all that adds to the tokens grows, and a new layer, which grows at its own pace, would never be
    heard beside it. Layers read the tokens through normalisations, so all of that can be divided by one number: here
    by the growth of the trained branches over fresh ones.

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
        fresh = MiniNetwork(deeper).state_dict()
    trained = {name: tensor.float() for name, tensor in tensors.items()}
    growth = branch_growth(trained, fresh)
    state = {}
    for name, tensor in fresh.items():
        last = LAST_OF_BRANCH.fullmatch(name)
        if name not in trained:
            state[name] = torch.zeros_like(tensor) if last else tensor
        else:
            state[name] = trained[name] / growth if last or INTO_TOKENS.fullmatch(name) else trained[name]
    return state, deeper


def branch_growth(trained: dict[str, Tensor], fresh: dict[str, Tensor]) -> float:
    """Norm of the matrices that end the trained branches over that of fresh ones, in the mean over them; 1 at least."""
    names = [name for name in trained if LAST_OF_BRANCH.fullmatch(name) and name.endswith("weight")]
    return max(1.0, float(torch.stack([trained[name].norm() / fresh[name].norm() for name in names]).mean()))
