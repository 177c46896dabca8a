"""Small files of the published form, with random weights."""

import torch

from viewtime.model.published.presets import load_model_config
from viewtime.model.published.published_keys import published_manifest
from viewtime.weights import save_weights


def write_published(folder, preset, seed=0, dtype=torch.float32, leave_out=(), name=None):
    """A single file as the hub has it, of the preset's `-debug` twin; identified by its shapes, not by its size."""
    config = load_model_config(f"{preset}-debug")
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in published_manifest(config).items():
        if key in leave_out:
            continue
        fan_in = max(1, torch.Size(shape[1:]).numel())
        value = torch.randn(shape, generator=generator) / fan_in**0.5
        if len(shape) == 1:
            value = 0.1 * value + (1.0 if key.endswith("weight") else 0.0)
        tensors[key] = value.to(dtype)
    return save_weights(folder / f"{name or preset}.safetensors", tensors, {}), tensors, config
