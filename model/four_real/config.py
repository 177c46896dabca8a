"""Sizes of the 4Real-Video networks; plain data, kept in a weight file's metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from viewtime.errors import UserError

Variant = Literal["soft", "hard", "sequential", "fused"]
VARIANTS = get_args(Variant)


@dataclass(frozen=True)
class BaseConfig:
    """The base video model (section 4.1: 24 DiT blocks of 1024 channels, about 600M parameters, pixels in and out).

    Attributes:
        channels: of a frame; 3 is RGB in [-1, 1].
        patch: side of the square of pixels behind one token.
        width, depth, head_dim: of the transformer; head_dim is a multiple of 16 (a quarter of it encodes the frame
            index, the rest the place in the image).
        mlp_ratio: hidden width of the MLP over `width`.
        text_width: width of the text encoder's tokens; 0 builds the model without text.
        frame_size: (height, width) in pixels of the frames it is made for; sampling takes them unless told otherwise.
            There neighbouring tokens are one position apart. At other sizes positions are scaled, so that weights
            trained at 36 x 64 go on at 72 x 128.
        extra_channels: channels of a picture given beside every noisy frame (the upsampler's input); 0 for none.
    """

    channels: int = 3
    patch: int = 4
    width: int = 1024
    depth: int = 24
    head_dim: int = 64
    mlp_ratio: int = 4
    text_width: int = 768
    frame_size: tuple[int, int] = (72, 128)
    extra_channels: int = 0

    def __post_init__(self) -> None:
        if self.head_dim % 16:
            raise UserError(f"4real: head_dim {self.head_dim} must be a multiple of 16")
        if self.width % self.head_dim:
            raise UserError(f"4real: width {self.width} must be a multiple of head_dim ({self.head_dim})")
        if any(side < self.patch or side % self.patch for side in self.frame_size):
            height, width = self.frame_size
            raise UserError(f"4real: frame_size {height} x {width}; both must be multiples of patch ({self.patch})")


@dataclass(frozen=True)
class GridConfig:
    """The grid model: a base model and the way in which its two directions are joined.

    Attributes:
        base: the base video model.
        variant: "soft" (Eq. 9-10), "hard" (Eq. 8), "sequential" (Eq. 5) or "fused" (view-time attention).
        soft_start: exchange of the soft layers before training: "ramp" is Eq. 13, the training-free version;
            "zero" leaves the streams apart.
    """

    base: BaseConfig = field(default_factory=BaseConfig)
    variant: Variant = "soft"
    soft_start: Literal["ramp", "zero"] = "ramp"

    @property
    def channels(self) -> int:
        """Of a frame."""
        return self.base.channels

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UserError(f"4real: variant {self.variant!r}; one of {', '.join(VARIANTS)}")
        if self.soft_start not in ("ramp", "zero"):
            raise UserError(f"4real: soft_start {self.soft_start!r}; one of ramp, zero")


@dataclass(frozen=True)
class UpsamplerConfig:
    """The diffusion upsampler (section 4.1: 72 x 128 -> 288 x 512).

    Attributes:
        base: its transformer; `base.extra_channels` must equal `base.channels` (the enlarged small frame).
        factor: enlargement.
    """

    base: BaseConfig = field(
        default_factory=lambda: BaseConfig(patch=16, depth=16, frame_size=(288, 512), extra_channels=3)
    )
    factor: int = 4

    @property
    def channels(self) -> int:
        """Of a frame."""
        return self.base.channels

    def __post_init__(self) -> None:
        if self.base.extra_channels != self.base.channels:
            raise UserError(
                f"4real upsampler: base.extra_channels {self.base.extra_channels} must equal base.channels "
                f"({self.base.channels}): the enlarged small frame enters beside the noisy one"
            )
        if self.factor < 2:
            raise UserError(f"4real upsampler: factor {self.factor} must be at least 2")
