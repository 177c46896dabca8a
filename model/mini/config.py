"""Shape of the mini network; plain data, kept in the weight file's metadata."""

from __future__ import annotations

from dataclasses import dataclass

from viewtime.errors import UserError


@dataclass(frozen=True)
class MiniConfig:
    """Sizes of `MiniNetwork`.

    Attributes:
        size: side of a cell in pixels.
        channels: channels of a cell; RGB composited on white, and alpha.
        stem_widths: channels of the convolutional stem at 1/2 and 1/4 of the size.
        width, depth, head_dim: of the transformer, which works at 1/8 of the size.
        frame_attention: whether every second layer attends over the frames of a view, in the solid over all frames of
            the input view; without it frames are independent (the ablation's "frame by frame").
        view_attention: whether the other layers attend over all views of an instant, or each view alone.
        lift_channels: of the volume that the known views' features are lifted into (`lift.Lift`); 0 leaves it out.
        frustum_width: of the network that turns the input view, the grid's first, into a solid
            (`frustum.Frustum`), whose pictures the rest corrects; 0 leaves it out. With depth 0 those pictures are
            the prediction, and of the other sizes only `size` and `channels` count.
        frustum_rays: that volume rendering casts along a picture's side: half the size (also 0), or the size, which
            takes four times the samples.
        camera_conditioning: whether the network sees the cameras at all.
    """

    size: int = 64
    channels: int = 4
    stem_widths: tuple[int, int] = (48, 96)
    width: int = 192
    depth: int = 8
    head_dim: int = 48
    lift_channels: int = 0
    frustum_width: int = 0
    frustum_rays: int = 0
    frame_attention: bool = True
    view_attention: bool = True
    camera_conditioning: bool = True

    def __post_init__(self) -> None:
        if self.size % 8:
            raise UserError(f"mini: size {self.size} is not a multiple of 8")
        if self.width % self.head_dim or self.head_dim % 2:
            raise UserError(f"mini: width {self.width} must be a multiple of an even head_dim ({self.head_dim})")
        if self.depth % 2:
            raise UserError(f"mini: depth {self.depth} must be even: view and frame layers alternate")
        if self.frustum_width % 8 or (self.frustum_width and self.channels != 4):
            raise UserError(f"mini: frustum_width {self.frustum_width} must be a multiple of 8, and channels 4")
        if self.frustum_rays not in (0, self.size // 2, self.size):
            raise UserError(f"mini: frustum_rays {self.frustum_rays}; choose {self.size // 2} or {self.size}")
        if not (self.depth or self.frustum_width):
            raise UserError("mini: depth 0 needs a frustum_width, else there is no network")
