"""The vector conditioning: sinusoidal embeddings of camera angles, noise augmentation, fps and motion."""

from __future__ import annotations

import torch
from torch import Tensor

from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.sv4d.embedding import sinusoidal


def polar_angle(config: VideoModelConfig, elevation: Tensor, input_elevation: Tensor) -> Tensor:
    """Polar angle in radians, as the model was trained: absolute, or relative to the input view (90° = its height).

    Args:
        elevation, input_elevation: degrees; shapes that broadcast.
    """
    reference = 0.0 if config.polar == "absolute" else input_elevation
    return torch.deg2rad(torch.remainder(90.0 - (elevation - reference), 360.0))


def azimuth_angle(azimuth: Tensor, input_azimuth: Tensor) -> Tensor:
    """Azimuth relative to the input view, in radians in [0, 2π); degrees in."""
    return torch.deg2rad(torch.remainder(azimuth - input_azimuth, 360.0))


def embed_vector(config: VideoModelConfig, values: dict[str, Tensor]) -> Tensor:
    """Embed each part and join them in the published order.

    Args:
        values: part name -> value of any shape [...]; shapes broadcast. Angles in radians.

    Returns:
        [..., config.vector_dim] float32.
    """
    present = torch.broadcast_tensors(*(values[part.name] for part in config.vector))
    return torch.cat([sinusoidal(value, part.dim) for value, part in zip(present, config.vector)], dim=-1)
