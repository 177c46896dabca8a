"""The base video model: a DiT on pixels that completes any video from any subset of its frames (section 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.four_real.block import BlockContext, VideoBlock
from viewtime.model.four_real.config import BaseConfig
from viewtime.model.four_real.positions import image_ids, rotary_angles, token_ids
from viewtime.model.full_precision import FullPrecisionLinear

NOISE_FEATURES = 256
# Rows of the context embedding: the two kinds of video that the model can make (section 3.1).
DYNAMIC, FREEZE_TIME = 0, 1


def noise_features(t: Tensor) -> Tensor:
    """Sinusoids of the noise level t in [0, 1] at frequencies 1 ... 1000: [...] -> [..., NOISE_FEATURES]."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), NOISE_FEATURES // 2, device=t.device))
    angle = t.float()[..., None] * frequencies
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Head(nn.Module):
    """Tokens to pixels of the velocity: normalise, modulate by the condition, project; starts at zero."""

    def __init__(self, width: int, pixels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = FullPrecisionLinear(width, 2 * width)
        self.project = nn.Linear(width, pixels)
        for layer in (self.modulation, self.project):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [..., P, D], condition [..., D] -> [..., P, pixels]."""
        shift, scale = self.modulation(F.silu(condition)).to(x.dtype)[..., None, :].chunk(2, dim=-1)
        return self.project(self.norm(x) * (1 + scale) + shift)


class TextProjection(nn.Module):
    """Tokens of the text encoder into the model's width: [B, L, text_width] -> [B, L, D]."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.text_width = text_width
        self.project, self.norm = nn.Linear(text_width, width), nn.LayerNorm(width)

    def forward(self, text: Tensor | None, batch: int) -> Tensor:
        """See the class; None is read as one token of zeros, which is also what conditioning dropout leaves."""
        if text is None:
            text = self.project.weight.new_zeros(batch, 1, self.text_width)
        if text.shape[-1] != self.text_width:
            raise UserError(f"text tokens are {text.shape[-1]} wide; this model was built for {self.text_width}")
        return self.norm(self.project(text.to(self.project.weight.dtype)))


class BaseVideoModel(nn.Module):
    """Predicts the velocity e - x0 of rectified flow for the frames of a video (`video`) or of a grid (`forward`).

    Masked training (section 3.1): known frames stand clean in the video at noise level 0 and carry a flag, so any
    subset of frames conditions the rest.
    """

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config
        D = config.width
        frame_values = config.patch**2 * (config.channels + 1 + config.extra_channels)
        self.patch_in = nn.Linear(frame_values, D)
        self.embed_noise = nn.Sequential(FullPrecisionLinear(NOISE_FEATURES, D), nn.SiLU(), FullPrecisionLinear(D, D))
        self.embed_context = nn.Embedding(2, D)
        nn.init.normal_(self.embed_context.weight, std=0.02)
        self.text_in = TextProjection(config.text_width, D) if config.text_width else None
        self.blocks = nn.ModuleList(
            VideoBlock(D, config.head_dim, config.mlp_ratio, with_text=config.text_width > 0)
            for _ in range(config.depth)
        )
        self.head = Head(D, config.patch**2 * config.channels)

    def embed(self, x: Tensor, known: Tensor, known_frames: Tensor, extra: Tensor | None = None) -> Tensor:
        """Frames to tokens, frame by frame.

        Args:
            x: [..., C, H, W] noisy frames in [-1, 1]; known [...] bool; known_frames [..., C, H, W].
            extra: [..., extra_channels, H, W].

        Returns:
            [..., P, D].

        Raises:
            UserError: the frame's size is not a multiple of the patch.
        """
        H, W = x.shape[-2:]
        if H % self.config.patch or W % self.config.patch:
            raise UserError(f"frames of {H} x {W} pixels; height and width must be multiples of {self.config.patch}")
        flag = known[..., None, None, None]
        planes = [torch.where(flag, known_frames, x), flag.to(x).expand(*known.shape, 1, H, W)]
        if extra is not None:
            planes.append(extra)
        p = self.config.patch
        patches = rearrange(torch.cat(planes, dim=-3), "... c (h p) (w q) -> ... (h w) (p q c)", p=p, q=p)
        return self.patch_in(patches.to(self.patch_in.weight))

    def noise_condition(self, t: Tensor, known: Tensor) -> Tensor:
        """Embedding of each frame's noise level, 0 where it is known: t, known [...] -> float32 [..., D]."""
        return self.embed_noise(noise_features(torch.where(known, torch.zeros_like(t), t)))

    def text_tokens(self, text: Tensor | None, batch: int) -> Tensor | None:
        """Projected text tokens [B, L, D], or None in a model without text.

        Raises:
            UserError: text for a model without text, or tokens of another encoder's width.
        """
        if self.text_in is not None:
            return self.text_in(text, batch)
        if text is not None:
            raise UserError("text was given, but this model was built without text (text_width 0)")
        return None

    def context(
        self, noise: Tensor, kind: int, order: Tensor, size: tuple[int, int], text: Tensor | None
    ) -> BlockContext:
        """What the blocks are told.

        Args:
            noise: [N, T, D] from `noise_condition`.
            kind: DYNAMIC or FREEZE_TIME.
            order: [N, T], place of each frame along the video.
            size: (H, W) in pixels.
            text: [N, L, D] projected tokens or None.
        """
        image = image_ids(*size, self.config.patch, self.config.frame_size[0], noise.device)
        angles = rotary_angles(token_ids(order, image), self.config.head_dim)
        return BlockContext(noise + self.embed_context.weight[kind], angles, text)

    def row_context(self, noise: Tensor, frames: Tensor, size: tuple[int, int], text: Tensor | None) -> BlockContext:
        """Of a grid's rows as dynamic videos, N = B V.

        Args:
            noise: [B, V, F, D] from `noise_condition`.
            frames: [B, F], places along the rows.
            size: (H, W) in pixels.
            text: [B, L, D] projected tokens or None.
        """
        V = noise.shape[1]
        per_row = None if text is None else repeat(text, "b l d -> (b v) l d", v=V)
        order = repeat(frames, "b f -> (b v) f", v=V)
        return self.context(rearrange(noise, "b v f d -> (b v) f d"), DYNAMIC, order, size, per_row)

    def column_context(self, noise: Tensor, views: Tensor, size: tuple[int, int], text: Tensor | None) -> BlockContext:
        """Of a grid's columns as freeze-time videos, N = B F; `views` [B, V], places along them, the rest as above."""
        F = noise.shape[2]
        per_column = None if text is None else repeat(text, "b l d -> (b f) l d", f=F)
        order = repeat(views, "b v -> (b f) v", f=F)
        return self.context(rearrange(noise, "b v f d -> (b f) v d"), FREEZE_TIME, order, size, per_column)

    def pixels(self, tokens: Tensor, condition: Tensor, size: tuple[int, int]) -> Tensor:
        """Velocity of each frame: tokens [..., P, D], condition [..., D] -> [..., C, H, W]."""
        p = self.config.patch
        return rearrange(
            self.head(tokens, condition), "... (h w) (p q c) -> ... c (h p) (w q)", h=size[0] // p, p=p, q=p
        )

    def forward(self, x: Tensor, noise_label: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Velocity of a grid, read as separate videos; the network inside a `FlowScaling`.

        A grid of one view is a dynamic video, a grid of one frame a freeze-time video. Of a batch of whole grids the
        even samples are read as rows and the odd ones as columns, so that training sees both kinds of video.

        Args:
            x: [B, V, F, C, H, W]; noise_label [B, V, F], 1000 t.
            cond: `known` [B, V, F], `known_frames` like x; `text` [B, L, text_width] if there is any.

        Raises:
            UserError: a single whole grid, which would be read as rows for ever.
        """
        B, V, F = x.shape[:3]
        if B == 1 and V > 1 and F > 1:
            raise UserError(
                "4real base: a batch of 1 grid of several views and frames; it needs 2 samples or more (rows of one, "
                "columns of another), or grids of one view or one frame"
            )
        velocity = torch.empty_like(x)
        every = torch.arange(B, device=x.device)
        as_rows = every[::2] if V > 1 and F > 1 else every[: B if F > 1 else 0]
        as_columns = every[1::2] if V > 1 and F > 1 else every[: 0 if F > 1 else B]
        for kind, samples in ((DYNAMIC, as_rows), (FREEZE_TIME, as_columns)):
            if len(samples):
                velocity[samples] = self._read(kind, samples, x, noise_label / 1000, cond).to(x)
        return velocity

    def _read(self, kind: int, samples: Tensor, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Velocity of some samples of a batch, read as rows or as columns."""
        videos = "b v f ... -> (b v) f ..." if kind == DYNAMIC else "b v f ... -> (b f) v ..."
        known, known_frames = cond["known"][samples], cond["known_frames"][samples]
        text = cond.get("text")
        if text is not None:
            text = text[samples].repeat_interleave(x.shape[1] if kind == DYNAMIC else x.shape[2], dim=0)
        velocity = self.video(
            rearrange(x[samples], videos),
            rearrange(t[samples], videos),
            kind,
            rearrange(known, videos),
            rearrange(known_frames, videos),
            text,
        )
        back = "(b v) f c h w -> b v f c h w" if kind == DYNAMIC else "(b f) v c h w -> b v f c h w"
        return rearrange(velocity, back, b=len(samples))

    def video(
        self,
        x: Tensor,
        t: Tensor,
        kind: int,
        known: Tensor,
        known_frames: Tensor,
        text: Tensor | None = None,
    ) -> Tensor:
        """Velocity of a video.

        Args:
            x: [N, T, C, H, W]; t [N, T] in [0, 1]; known [N, T] bool; known_frames [N, T, C, H, W].
            kind: DYNAMIC or FREEZE_TIME.
            text: [N, L, text_width] or None.

        Returns:
            [N, T, C, H, W]; values at known frames mean nothing.
        """
        N, T, size = x.shape[0], x.shape[1], (x.shape[-2], x.shape[-1])
        order = torch.arange(T, device=x.device).expand(N, T)
        tokens = self.embed(x, known, known_frames)
        context = self.context(self.noise_condition(t, known), kind, order, size, self.text_tokens(text, N))
        for block in self.blocks:
            tokens = block(tokens, context)
        return self.pixels(tokens, context.condition, size)
