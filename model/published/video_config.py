"""Everything that tells the published models apart, as plain data. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.vae.config import VaeConfig

Part = Literal["network", "image_encoder", "frame_encoder", "view_encoder", "decoder"]
PARTS: tuple[Part, ...] = ("network", "image_encoder", "frame_encoder", "view_encoder", "decoder")


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Sizes of the OpenCLIP image tower; the defaults are ViT-H/14."""

    image_size: int = 224
    patch_size: int = 14
    width: int = 1280
    layers: int = 32
    heads: int = 16
    out_dim: int = 1024
    text_width: int = 1024
    """Of the unused left-overs of the text tower in published files."""
    vocabulary: int = 49408
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    """OpenAI's own CLIP (zero123) was trained with the quick approximation x · sigmoid(1.702 x)."""


@dataclass(frozen=True)
class VectorPart:
    """One number of the vector conditioning and the width of its sinusoidal embedding."""

    name: Literal["fps", "motion_bucket", "noise_augmentation", "polar", "azimuth"]
    dim: int


@dataclass(frozen=True)
class VideoModelConfig:
    """One published model, or a small twin of one."""

    name: str
    family: Literal["svd", "sv3d", "sv4d"]
    vector: tuple[VectorPart, ...]
    """In the published order; radians for the angles."""
    network: UNetConfig = field(default_factory=UNetConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    prediction: Literal["v", "edm", "flow", "flow-clean"] = "v"
    views: int = 1
    """Generated views of one sampling pass, as published."""
    frames: int = 1
    """Generated frames of one sampling pass, as published."""
    image_size: int = 576
    """Pixels along an edge (SVD: the height; its width is 1024)."""
    polar: Literal["absolute", "relative"] = "absolute"
    """Polar angle 90° - elevation, or relative to the input view's elevation (SV4D 2.0)."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the model consists of; only SV4D encodes reference views."""
        return tuple(part for part in PARTS if part != "view_encoder" or self.family == "sv4d")

    @property
    def frame_encoder_place(self) -> int:
        """Number of the published conditioner's embedder that encodes the input frames."""
        return 3 if self.family == "svd" else 1

    @property
    def vector_dim(self) -> int:
        """Width of all vector parts together."""
        return sum(part.dim for part in self.vector)
