"""Text through open_clip: widths, empty prompts, and the way into a model. Random weights: nothing is downloaded."""

from __future__ import annotations

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.four_real.base import DYNAMIC, BaseVideoModel
from viewtime.model.four_real.config import BaseConfig
from viewtime.weights import save_weights

pytest.importorskip("open_clip")
from viewtime.model.four_real.text import ClipText, build_text_tower, tower_key

TINY = {"width": 32, "heads": 2, "layers": 2}


def test_clip_tokens_condition_a_model(tmp_path):
    torch.manual_seed(0)
    tower = build_text_tower(TINY)
    encoder = ClipText(save_weights(tmp_path / "text.safetensors", tower.state_dict(), {}), TINY)
    assert encoder.width == 32
    tokens = encoder(["a red fox walks", "", "a red fox runs"])
    assert tokens.shape == (3, 77, encoder.width)
    assert torch.equal(tokens[1], torch.zeros_like(tokens[1]))
    assert (tokens[0] - tokens[2]).abs().max() > 1e-3
    model = BaseVideoModel(BaseConfig(width=32, depth=1, head_dim=16, text_width=encoder.width, frame_size=(8, 8)))
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
        build_text_tower("ViT-Z")
    with pytest.raises(UserError, match="use a plain one: ViT-L-14-quickgelu"):
        build_text_tower("mt5-xl-ViT-H-14")


def test_the_default_is_openais_text_transformer_with_its_own_activation():
    """768 wide and 12 deep; OpenAI trained with the sigmoid form of GELU. Built without memory."""
    with torch.device("meta"):
        tower = build_text_tower()
    assert tower.token_embedding.weight.shape == (49408, 768)  # type: ignore[union-attr]
    assert len(tower.transformer.resblocks) == 12  # type: ignore[union-attr, arg-type]
    assert type(tower.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"  # type: ignore[union-attr, index]
    assert not any("proj" in name and "text" in name for name, _ in tower.named_parameters())


def test_names_of_either_kind_of_file_reach_the_tower():
    assert tower_key("text.transformer.resblocks.0.ln_1.weight") == "transformer.resblocks.0.ln_1.weight"
    assert tower_key("token_embedding.weight") == "token_embedding.weight"
    assert tower_key("visual.transformer.resblocks.0.ln_1.weight") is None
    assert tower_key("logit_scale") is None
