"""Golden files: where they lie, the rule of their weights, small networks filled by it (tests/golden/README.md)."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.sv4d.keys import published_names
from viewtime.model.sv4d.unet import VideoUNet

REPOSITORY = Path(__file__).resolve().parent.parent / "golden"
FOLDER = Path(os.environ.get("VIEWTIME_GOLDEN", REPOSITORY))
PREFIX = os.environ.get("VIEWTIME_GOLDEN_PREFIX", "")

SIZES = {
    "channels": 32,
    "multipliers": (1, 2),
    "residual_blocks": 1,
    "head_dim": 16,
    "context_dim": 32,
    "attention_levels": (True, True),
}
SV4D2 = {"vector_dim": 128, "separate_blend": True, "view_embedding": "conditioning"}
NETWORKS = {
    "sv4d": UNetConfig(vector_dim=96, **SIZES),
    "sv4d2": UNetConfig(view_attention="raster", **SV4D2, **SIZES),
    "sv4d2_8views": UNetConfig(**SV4D2, **SIZES),
    "sv3d_p": UNetConfig(axes="view", vector_dim=80, **SIZES),
    "svd": UNetConfig(axes="frame", vector_dim=48, **SIZES),
}


def arrays(name):
    """The arrays of NAME.npz as tensors; the test is skipped where the folder does not hold the file."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {FOLDER}")
    with np.load(path) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def key_shapes(name):
    return json.loads((FOLDER / f"{name}.keys.json").read_text())


def normal(tag, shape):
    seed = int.from_bytes(hashlib.sha256((PREFIX + tag).encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape), dtype=np.float32)


def weight(key, shape):
    z = normal(key, shape)
    if len(shape) >= 2:
        value = z / np.float32(np.sqrt(np.prod(shape[1:])))
    elif key.endswith("mix_factor"):
        value = np.float32(0.3) * z
    elif key.endswith(".weight"):
        value = np.float32(1) + np.float32(0.02) * z
    else:
        value = np.float32(0.02) * z
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def fill(module, published, shapes):
    """Give a module the rule's weights, strictly: names and shapes must be those of the golden file."""
    own = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    assert {published[name]: shape for name, shape in own.items()} == shapes
    module.load_state_dict({name: weight(key, shapes[key]) for name, key in published.items()})
    return module.eval().requires_grad_(False)


def network(name, **arguments):
    unet = VideoUNet(NETWORKS[name], **arguments)
    return fill(unet, published_names(list(unet.state_dict()), NETWORKS[name]), key_shapes(name))


def to_grid(name, rows, views, batch):
    """Published rows [N, ...] to [B, V, F, ...]: SV3D's rows are views, all others are (b f v)."""
    if name == "sv3d_p":
        return rearrange(rows, "(b v) ... -> b v 1 ...", b=batch)
    return rearrange(rows, "(b f v) ... -> b v f ...", b=batch, v=views)


def conditioning(name, data, views, batch, tag=""):
    """`cond` of our network from the published dictionary."""
    cond = {
        "concat": to_grid(name, data[f"{tag}concat"], views, batch),
        "vector": to_grid(name, data[f"{tag}vector"], views, batch),
    }
    tokens = data[f"{tag}crossattn"]
    if name.startswith("sv4d"):
        cond["image_tokens"] = rearrange(tokens, "b f d -> b 1 f d")
        cond["reference_views"] = rearrange(data[f"{tag}cond_view"], "(b v) c h w -> b v c h w", b=batch)
    else:
        cond["image_tokens"] = to_grid(name, tokens, views, batch)[:, :, :, 0]
    return cond


def image_only(name, flags):
    return rearrange(flags > 0, "b v -> b v 1" if name == "sv3d_p" else "b f -> b 1 f")
