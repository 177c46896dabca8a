"""Parameters of a preset's model, counted without memory: built on the meta device."""

from __future__ import annotations

import torch
from torch import nn

from viewtime.configs.load import load_preset
from viewtime.errors import UserError
from viewtime.model.registry import MODELS, build_network


def parameter_counts(network: nn.Module) -> dict[str, int]:
    """Parameters of each direct child and of the network's own tensors ("(own)")."""
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    own = sum(p.numel() for p in network.parameters(recurse=False))
    return {**counts, "(own)": own} if own else counts


def describe_preset(name: str) -> str:
    """A table of a training preset's model: parameters by part with their share, and how many of them train.

    Raises:
        UserError: no such preset, or its model is none of the registry.
    """
    section = load_preset(name).get("model")
    model = section.get("name") if isinstance(section, dict) else None
    if not isinstance(section, dict) or model not in MODELS:
        raise UserError(f"preset {name!r} names the model {model!r}; parameters are counted for {', '.join(MODELS)}")
    with torch.device("meta"):
        network = build_network(model, section.get("config", {}))
    counts = parameter_counts(network)
    total = sum(counts.values())
    lines = [f"preset {name}: model {model}, {total / 1e6:.1f}M parameters"]
    lines += [f"{part:24s} {count / 1e6:10.2f}M  {count / total:6.1%}" for part, count in counts.items()]
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    lines.append(f"{'trained by default':24s} {trained / 1e6:10.2f}M  {trained / total:6.1%}")
    return "\n".join(lines)
