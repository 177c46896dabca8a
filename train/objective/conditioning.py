"""Which cells are known, and which conditions are dropped for classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from viewtime.configs.schema.train import ConditioningSection
from viewtime.errors import UserError

MASKS = ("first_view", "first_view_and_frame", "random")


def draw_mask(mode: str, views: int, frames: int, generator: torch.Generator) -> Tensor:
    """Known cells, bool [V, F]; at least one cell stays unknown.

    "first_view": the input video (SV4D 2.0). "first_view_and_frame": also the freeze-time video (SV4D).
    "random": the first cell and a random share of the others.
    """
    known = torch.zeros(views, frames, dtype=torch.bool)
    share = torch.rand((), generator=generator)
    random_cells = torch.rand((views, frames), generator=generator) < share
    if mode == "random":
        known = random_cells
        known[0, 0] = True
    else:
        known[0] = True
        if mode == "first_view_and_frame":
            known[:, 0] = True
    if bool(known.all()):
        known[-1, -1] = False
    return known


def check_conditioning(section: ConditioningSection) -> None:
    """Raise UserError for an unknown mask or probabilities that are none."""
    for mode in section.masking:
        if mode not in MASKS:
            raise UserError(f"unknown mask conditioning.masking.{mode}; masks: {', '.join(MASKS)}")
    if section.masking and abs(sum(section.masking.values()) - 1) > 1e-6:
        raise UserError(f"conditioning.masking adds up to {sum(section.masking.values()):.4g}; it must be 1")
    for key, probability in section.dropout.items():
        if not 0 <= probability <= 1:
            raise UserError(f"conditioning.dropout.{key} is {probability}; it is a probability")


def apply_conditioning(
    x0: Tensor, cond: dict[str, Tensor], section: ConditioningSection, generators: list[torch.Generator]
) -> dict[str, Tensor]:
    """New masks and dropped conditions for a batch; the input dictionary is left as it is.

    Args:
        x0: [B, V, F, C, H, W].
        cond: conditions, batch first.
        generators: one for each sample.

    Raises:
        UserError: a key to drop is not in the batch.
    """
    cond = dict(cond)
    masks, drops = [], []
    modes = list(section.masking)
    for generator in generators:
        picks = torch.rand(1 + len(section.dropout), generator=generator)
        if modes:
            limits = torch.cumsum(torch.tensor([section.masking[mode] for mode in modes]), 0)
            mode = modes[min(int((picks[0] >= limits).sum()), len(modes) - 1)]
            masks.append(draw_mask(mode, x0.shape[1], x0.shape[2], generator))
        drops.append(picks[1:])
    if modes:
        cond["known"] = torch.stack(masks).to(x0.device)
        cond["known_frames"] = x0 * cond["known"][..., None, None, None]
    for column, (names, probability) in enumerate(section.dropout.items()):
        keep = torch.stack([drop[column] >= probability for drop in drops]).to(x0.device)
        for name in names.split("+"):
            if name not in cond:
                raise UserError(f"conditioning.dropout names {name}; the batch has {', '.join(sorted(cond))}")
            value = cond[name]
            cond[name] = value * keep.view(-1, *[1] * (value.dim() - 1)).to(value.dtype)
    return cond
