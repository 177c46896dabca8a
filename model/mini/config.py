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
        frustum_size: side of the pictures that this network sees, of which `size` is a multiple; 0: the size. It
            draws half as many cells along each edge.
        frustum_rays: that volume rendering casts along a picture's side: half that size (also 0), which trains
            fastest, or any multiple up to the size, at which outline and colours of the input are kept.
        frustum_hints: whether it sees what the outline says of the solid, and its camera (`hints.draw_hints`).
        frustum_smooth: whether what it draws is smoothed from cell to cell (`settle.smooth`).
        frustum_readouts: whether what it draws is also read from its features at a quarter and an eighth of the
            pictures' size, which hold more about a place than the finest ones.
        frustum_own_hue: whether what it draws changes all three colours of a pixel alike, so that a cell keeps about
            its pixel's hue: for sampling. A perceptual loss leaves hues that shimmer.
        frustum_settle: whether parts that it leaves as mist are made opaque (`settle.settle`): for sampling. Trained
            with it, the network learns to leave mist elsewhere.
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
    frustum_size: int = 0
    frustum_rays: int = 0
    frustum_hints: bool = False
    frustum_smooth: bool = False
    frustum_readouts: bool = False
    frustum_own_hue: bool = False
    frustum_settle: bool = False
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
        seen = self.frustum_size or self.size
        if seen % 8 or self.size % seen:
            raise UserError(f"mini: frustum_size {seen} must be a multiple of 8 that divides the size ({self.size})")
        rays = self.frustum_rays or seen // 2
        if rays % (seen // 2) or self.size % rays:
            raise UserError(f"mini: frustum_rays {rays}; choose {seen // 2}, or a multiple that divides {self.size}")
        if not (self.depth or self.frustum_width):
            raise UserError("mini: depth 0 needs a frustum_width, else there is no network")
