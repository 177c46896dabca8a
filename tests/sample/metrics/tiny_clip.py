"""A CLIP small enough to make and load within a test."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(folder: Path) -> tuple[str, Path]:
    """open_clip's name for it, and a file of random weights."""
    library = pytest.importorskip("open_clip")
    config, path = folder / "tiny-clip.json", folder / "clip.safetensors"
    config.write_text(json.dumps(TINY_CLIP))
    library.add_model_config(config)
    torch.manual_seed(0)
    state = library.create_model("tiny-clip").state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return "tiny-clip", path
