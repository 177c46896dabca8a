"""CLIP score of text-to-4D as 4D-fy measures it (section 4.1): frames of an orbit against the prompt, × 100."""

from __future__ import annotations

import torch

from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import composite
from viewtime.sample.metrics.networks.perceptual import ClipSimilarity
from viewtime.sample.metrics.summary import Row, Summary


def clip_score(grid: FrameGrid, prompt: str, clip: ClipSimilarity, background: float = 1.0) -> float:
    """Mean cosine × 100 over the frames of a video whose camera goes round while time passes: the grid's diagonal.

    Raises:
        UserError: an empty prompt.
    """
    if not prompt.strip():
        raise UserError("--prompt is empty; give the text that the grid was made of")
    return 100 * float(clip.with_text(composite(grid.diagonal(), background), prompt).mean())


def clip_score_summary(scores: list[float], clip: ClipSimilarity, background: float) -> Summary:
    """The table of one number: the mean over prompts."""
    values = torch.tensor(scores)
    protocol = f"{clip.protocol}; mean over the frames of each grid's diagonal and over prompts, cosine × 100"
    row = Row(
        "clip_score", "CLIP score", "higher", float(values.mean()), None, None, f"{len(scores)} prompts", protocol
    )
    return Summary([row], {}, {}, {"grids": len(scores), "background": background, "interval": "none"})
