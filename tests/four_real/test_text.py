"""Text through open_clip: widths, empty prompts, and the way into a model. Random weights: nothing is downloaded."""

from __future__ import annotations

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.four_real.base import DYNAMIC, BaseVideoModel
from viewtime.model.four_real.config import BaseConfig

pytest.importorskip("open_clip")
from viewtime.model.four_real.text import ClipText


def test_clip_tokens_condition_a_model():
    torch.manual_seed(0)
    encoder = ClipText(pretrained=None, name="RN50")
    tokens = encoder(["a red fox walks", "", "a red fox runs"])
    assert tokens.shape == (3, 77, encoder.width)
    assert torch.equal(tokens[1], torch.zeros_like(tokens[1]))
    assert (tokens[0] - tokens[2]).abs().max() > 1e-3
    model = BaseVideoModel(BaseConfig(width=32, depth=1, head_dim=16, text_width=encoder.width, reference_height=8))
    torch.nn.init.normal_(model.head.project.weight)
    torch.nn.init.normal_(model.blocks[0].text_attention.out.weight)  # type: ignore[union-attr, arg-type]
    x = torch.randn(1, 2, 3, 8, 8)
    known = torch.zeros(1, 2, dtype=torch.bool)
    walk, none = (
        model.video(x, torch.full((1, 2), 0.5), DYNAMIC, known, torch.zeros_like(x), text)
        for text in (tokens[:1], None)
    )
    assert (walk - none).abs().max() > 1e-3


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError, match="ViT-Z"):
        ClipText(name="ViT-Z")
