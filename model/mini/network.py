"""MiniNetwork: joint view-and-space attention and frame attention over the tokens of a grid (SV4D 2.0, section 3).

Known cells stand clean in the grid at noise level 0 and carry a flag; so the same network conditions on the first
view, on the first view and first frame, or on any other set of cells.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.attention import Backend, attend
from viewtime.model.full_precision import FullPrecisionLinear, in_float32
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.frustum import Frustum, SolidCameras
from viewtime.model.mini.lift import Lift
from viewtime.model.mini.rays import SLOPE, camera_axes, slope_of
from viewtime.model.mini.stem import StemDecoder, StemEncoder

NOISE_FREQUENCIES = 64
AZIMUTH_HARMONICS = 8


def noise_features(t: Tensor) -> Tensor:
    """Sinusoids of the noise level t in [0, 1]: [...] -> [..., NOISE_FREQUENCIES]."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), NOISE_FREQUENCIES // 2, device=t.device))
    angle = t.float()[..., None] * frequencies
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def camera_features(elevation: Tensor, azimuth: Tensor) -> Tensor:
    """Harmonics of the azimuth and the elevation (degrees): [...] -> [..., 2 · AZIMUTH_HARMONICS + 2]."""
    harmonics = torch.arange(1, AZIMUTH_HARMONICS + 1, device=azimuth.device)
    angle = torch.deg2rad(azimuth)[..., None] * harmonics
    tilt = torch.deg2rad(elevation)[..., None]
    return torch.cat([angle.cos(), angle.sin(), tilt.sin(), tilt.cos()], dim=-1)


def open_gates(modulation: nn.Linear, layers: nn.ModuleList) -> None:
    """Gates start near a half so that gradients reach every layer from the first step."""
    nn.init.zeros_(modulation.weight)
    nn.init.zeros_(modulation.bias)
    with torch.no_grad():
        for layer in layers:
            layer.table[2].fill_(0.5)  # type: ignore[index]
            layer.table[5].fill_(0.5)  # type: ignore[index]


def _embedding(features: int, width: int) -> nn.Sequential:
    """Linear, SiLU, Linear, in float32."""
    return nn.Sequential(FullPrecisionLinear(features, width), nn.SiLU(), FullPrecisionLinear(width, width))


class Attention(nn.Module):
    """Self-attention with normalised queries and keys; [N, L, C] -> [N, L, C]."""

    def __init__(self, width: int, head_dim: int, backend: Backend = "sdpa") -> None:
        super().__init__()
        self.head_dim, self.backend = head_dim, backend
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm_q, self.norm_k = nn.RMSNorm(head_dim), nn.RMSNorm(head_dim)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        q, k, v = rearrange(self.qkv(x), "n l (s h d) -> s n h l d", s=3, d=self.head_dim)
        q, k = self.norm_q(q).to(v), self.norm_k(k).to(v)
        return self.out(rearrange(attend(q, k, v, self.backend), "n h l d -> n l (h d)"))


# What the tokens of a sequence share: an instant, a view, or a cell alone.
SEQUENCES = {
    "views": ("b v f p c", "(b f) (v p) c"),
    "frames": ("b v f p c", "(b v) (f p) c"),
    "cell": ("b v f p c", "(b v f) p c"),
}


class Layer(nn.Module):
    """Attention and MLP, modulated per cell by noise level and camera (adaLN; one table per layer, DiT section 3.2).

    `axis` says what the tokens of a sequence share: "views" attends over all views and positions of an instant,
    "frames" over all frames and positions of a view, "cell" within a cell.
    """

    def __init__(self, width: int, head_dim: int, axis: str) -> None:
        super().__init__()
        self.grid_axes, self.sequence_axes = SEQUENCES[axis]
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, head_dim)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x [B, V, F, P, C], modulation [B, V, F, 1, 6, C] -> x."""
        B, V, F_, P, _ = x.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (modulation + self.table).to(x.dtype).unbind(dim=-2)
        h = self.norm_attention(x) * (1 + scale_a) + shift_a
        h = self.attention(rearrange(h, f"{self.grid_axes} -> {self.sequence_axes}"))
        h = rearrange(h, f"{self.sequence_axes} -> {self.grid_axes}", b=B, v=V, f=F_, p=P)
        x = x + gate_a * h
        h = self.norm_mlp(x) * (1 + scale_m) + shift_m
        return x + gate_m * self.mlp_out(F.gelu(self.mlp_in(h), approximate="tanh"))


class MiniNetwork(nn.Module):
    """Predicts the clean grid from a noisy one.

    `forward(x, t, cond)` with x [B, V, F, 4, S, S] (known cells may hold anything), t [B, V, F] in [0, 1] and cond:
    `known` [B, V, F] bool, `known_frames` [B, V, F, 4, S, S], `elevation`, `azimuth` [B, V, F] degrees, the azimuth
    relative to the input view, and `fov_y` [B] degrees (33.8 where it is missing). Returns the prediction of x0, same
    shape as x.
    """

    def __init__(self, config: MiniConfig) -> None:
        super().__init__()
        self.config = config
        C, side = config.width, config.size // 8
        self.frustum = Frustum(config) if config.frustum_width else None
        if not config.depth:
            return
        shown = config.channels if config.frustum_width else 0
        self.encoder = StemEncoder(config.channels + 1, config.stem_widths, C, shown)
        self.lift = (
            Lift(config.stem_widths[1], config.lift_channels, config.size // 4) if config.lift_channels else None
        )
        self.decoder = StemDecoder(config.channels, config.stem_widths, C)
        self.position = nn.Parameter(torch.randn(side * side, C) * 0.5 / math.sqrt(C))
        self.embed_noise = _embedding(NOISE_FREQUENCIES, C)
        self.embed_camera = _embedding(2 * AZIMUTH_HARMONICS + 2, C)
        self.embed_frame = FullPrecisionLinear(NOISE_FREQUENCIES, C)
        self.embed_known = nn.Embedding(2, C)
        self.camera_to_tokens = FullPrecisionLinear(C, C)
        self.modulation = FullPrecisionLinear(C, 6 * C)
        view_axis = "views" if config.view_attention else "cell"
        frame_axis = "frames" if config.frame_attention else "cell"
        axes = [view_axis if index % 2 == 0 else frame_axis for index in range(config.depth)]
        self.layers = nn.ModuleList(Layer(C, config.head_dim, axis) for axis in axes)
        self.norm = nn.LayerNorm(C)
        open_gates(self.modulation, self.layers)

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """See the class."""
        B, V, F_ = x.shape[:3]
        known = cond["known"]
        start = self._start(x, known, cond)
        if not self.config.depth:
            return start
        x = torch.where(known[..., None, None, None], cond["known_frames"], x)
        t = torch.where(known, torch.zeros_like(t), t)
        flag = known[..., None, None, None].to(x).expand(-1, -1, -1, 1, *x.shape[-2:])
        cells = rearrange(torch.cat([x, flag], dim=3), "b v f c h w -> (b v f) c h w").to(self.position.dtype)
        shown = rearrange(start, "b v f c h w -> (b v f) c h w").to(cells) if self.frustum is not None else None
        half, quarter = self.encoder(cells.contiguous(memory_format=torch.channels_last), shown)
        if self.lift is not None:
            grid = rearrange(quarter, "(b v f) c h w -> b v f c h w", b=B, v=V, f=F_)
            # Its volume reaches 1e5 in the shipped file, over float16's 65,504.
            seen = in_float32(self.lift, grid.float(), known, cond["elevation"], cond["azimuth"])
            quarter = quarter + rearrange(seen, "b v f c h w -> (b v f) c h w").to(quarter)
        features = self.encoder.down_quarter(quarter)
        embedding, camera = self._embed_cells(t, known, cond)
        tokens = rearrange(features, "(b v f) c h w -> b v f (h w) c", b=B, v=V, f=F_)
        placed = self.camera_to_tokens(camera)[..., None, :] + self._frame_code(F_, tokens)
        tokens = tokens + self.position + placed.to(self.position.dtype)
        modulation = rearrange(self.modulation(F.silu(embedding)), "b v f (s c) -> b v f 1 s c", s=6)
        for layer in self.layers:
            tokens = layer(tokens, modulation)
        side = self.config.size // 8
        features = rearrange(self.norm(tokens), "b v f (h w) c -> (b v f) c h w", h=side)
        x0 = self.decoder(features.contiguous(memory_format=torch.channels_last), half, quarter)
        return rearrange(x0, "(b v f) c h w -> b v f c h w", b=B, v=V, f=F_) + start

    def resize(self, size: int) -> None:
        """Make cells of another size; of a network without layers, whose solid sees the same pictures as before.

        Raises:
            UserError: the size is no multiple of these pictures' side.
        """
        assert self.frustum is not None
        assert not self.config.depth
        seen = self.config.frustum_size or self.config.size
        self.config = replace(self.config, size=size, frustum_size=seen, frustum_rays=size)
        self.frustum.rays = size

    def _start(self, x: Tensor, known: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """What the layers correct, broadcastable to x: what cameras see of the input view's solid, or empty cells."""
        # An empty cell is white and transparent: start there, not at grey.
        empty = x.new_ones(self.config.channels, 1, 1)
        empty[3:] = -1
        if self.frustum is None:
            return empty
        B, V, frames = x.shape[:3]
        axes = camera_axes(cond["elevation"].float(), cond["azimuth"].float())
        axes = rearrange(axes, "b v f i j -> (b f) v i j")
        fov_y = cond.get("fov_y")
        slope = x.new_full((B,), SLOPE) if fov_y is None else slope_of(fov_y)
        elevation = cond["elevation"][:, 0].float().flatten()
        cameras = SolidCameras(axes[:, 0], elevation, axes[:, 1:], slope.repeat_interleave(frames))
        picture = torch.where(known[:, 0, :, None, None, None], cond["known_frames"][:, 0], empty)
        picture = picture.flatten(0, 1).float()
        seen = self.frustum(picture, cameras, frames)
        seen = F.interpolate(seen.flatten(0, 1), size=x.shape[-2:], mode="bilinear", align_corners=False)
        seen = torch.cat([picture[:, None], seen.unflatten(0, (-1, V - 1))], dim=1)
        seen = rearrange(seen, "(b f) v c h w -> b v f c h w", b=B)
        return torch.where(known[:, :1, :, None, None, None], seen, empty)

    def _embed_cells(self, t: Tensor, known: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(embedding of noise level, camera and flag; camera embedding alone), each [B, V, F, C]."""
        features = camera_features(cond["elevation"], cond["azimuth"])
        if not self.config.camera_conditioning:
            features = torch.zeros_like(features)
        camera = self.embed_camera(features)
        return self.embed_noise(noise_features(t)) + camera + self.embed_known(known.long()), camera

    def _frame_code(self, frames: int, tokens: Tensor) -> Tensor:
        """Sinusoids of the frame index (per 16 frames), [F, 1, C]."""
        index = torch.arange(frames, device=tokens.device, dtype=torch.float32) / 16.0
        return self.embed_frame(noise_features(index))[:, None, :]
