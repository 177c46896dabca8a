"""Golden numbers of score distillation: where they lie, the rule of their draws and weights (tests/golden/distill)."""

import gzip
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2] / "golden" / "distill"
FOLDER = Path(os.environ.get("VIEWTIME_GOLDEN_DISTILL", REPOSITORY))
PREFIX = os.environ.get("VIEWTIME_GOLDEN_PREFIX", "")
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def arrays(name):
    """The arrays of NAME.npz as tensors (names as lists); skipped where the folder does not hold the file."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {FOLDER}")
    with np.load(path) as file:
        values = {key: file[key] for key in file.files}
    return {
        key: value.tolist() if value.dtype.kind in "US" else torch.from_numpy(np.array(value))
        for key, value in values.items()
    }


def draw(key, *shape):
    """The rule's standard normal values, float64."""
    seed = zlib.crc32((PREFIX + key).encode()) & 0x7FFFFFFF
    return torch.from_numpy(np.asarray(np.random.RandomState(seed).standard_normal(shape)))


def weight(key, shape):
    """The rule's value of a parameter whose full name is `key`."""
    z = draw(key, *shape)
    if len(shape) >= 2:
        return z / torch.Size(shape[1:]).numel() ** 0.5
    return 1 + 0.1 * z if key.endswith("weight") else 0.1 * z


def fill(module, prefix, names=None):
    """Give every parameter the rule's weights in float64; `names` maps a parameter to the name that the rule uses."""
    module.double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            key = name if names is None else names[name]
            parameter.copy_(weight(f"{prefix}:{key}", tuple(parameter.shape)))
    return module.eval().requires_grad_(False)


def manifest(name):
    """Tensor names and shapes of a published model."""
    path = REPOSITORY / "manifests" / f"{name}.json.gz"
    return {key: tuple(shape) for key, shape in json.loads(gzip.decompress(path.read_bytes())).items()}


def close(found, wanted, **tolerance):
    """Equal within the golden tolerance of float64."""
    torch.testing.assert_close(found, wanted.to(found.dtype), **{**CLOSE, **tolerance})
