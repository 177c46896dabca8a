"""One grid folder into the members of one shard sample."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from viewtime.data.curation.heldout import heldout_set_of
from viewtime.data.pixels import encode_frames, resize_frames
from viewtime.dnerf import open_grid
from viewtime.errors import UserError

from . import schema

LatentEncoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""uint8 [V, F, 3 or 4, H, W] -> scaled latents [V, F, 4, h, w] and CLIP embeddings [V, F, D]."""


def sample_key(number: int, id: str) -> str:
    """A key that can name tar members: the number in the plan makes it unique, the id makes it readable."""
    return f"{number:06d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', id)[:80].strip('_')}"


def encode_grid(
    folder: Path, id: str, *, resolution: int | None, quality: int, latents: LatentEncoder | None
) -> dict[str, bytes]:
    """Members of a sample: extension -> bytes.

    Args:
        latents: makes a latent sample; None makes a pixel sample.

    Raises:
        UserError: no whole grid there, no cameras, or an object of a published test set.
    """
    grid = open_grid(folder)
    if grid.cameras is None:
        raise UserError(f"{folder} has no cameras; training needs them")
    asset = str(grid.provenance.get("asset", id))
    for name in (asset, Path(asset).name, id, id.partition("/")[0]):
        if test_set := heldout_set_of(name):
            raise UserError(f"{id} belongs to the published test set {test_set}: never train on it")
    frames = (grid.frames.clamp(0, 1) * 255).round().to(torch.uint8)
    if resolution is not None:
        frames = resize_frames(frames, resolution)
    V, F, C, H, W = frames.shape
    members: dict[str, bytes] = {}
    arrays: dict[str, np.ndarray] = {}
    if latents is None:
        members[schema.PIXELS] = encode_frames(frames, quality)
    else:
        made = latents(frames)
        arrays = {name: value.numpy().astype(schema.ARRAY_DTYPE) for name, value in zip(schema.ARRAY_AXES, made)}
    times = grid.provenance.get("times")
    if not isinstance(times, list) or len(times) != F:
        times = [frame / grid.fps for frame in range(F)]
    record = schema.SampleRecord(
        version=schema.FORMAT_VERSION,
        id=id,
        source=str(grid.provenance.get("source", "grid")),
        views=V,
        frames=F,
        height=H,
        width=W,
        has_alpha=C == 4,
        fps=grid.fps,
        cameras=schema.pack_cameras(grid.cameras),
        frame_times=[float(time) for time in times],
        arrays={name: list(array.shape) for name, array in arrays.items()},
        provenance=grid.provenance,
    )
    for name, array in arrays.items():
        members[name] = _npy(schema.check_array(name, array, record))
    members[schema.META] = json.dumps(record.to_json(), sort_keys=True).encode()
    return members


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
