"""4Real-Video's pseudo-4D source (section 3.3): ordinary videos under 2D affine camera moves.

Each view is the same video seen through its own continuous affine motion, so the grid has true object motion along
time and an exactly known, if flat, change of viewpoint along views. View 0 is the video itself. There is no 3D camera
behind it: azimuths spread evenly over the drawn turn, so that a model with camera input sees which way the view moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional

from viewtime.cameras import Cameras
from viewtime.data.captions import read_caption
from viewtime.data.film import open_film
from viewtime.data.samples import CorruptSampleError, GridSample
from viewtime.data.sources import Consumer
from viewtime.data.views import draw_frames
from viewtime.errors import UserError

SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif")


@dataclass(frozen=True)
class AffineMove:
    """A camera move in the image plane, from rest at view 0 to this at the last view.

    Attributes:
        shift: of the picture's centre, in half image widths (x right, y down).
        log_zoom: natural logarithm of the magnification.
        turn: radians, clockwise in the image.
        shear: to the side for every step down, whatever the picture's shape.
    """

    shift: tuple[float, float]
    log_zoom: float
    turn: float
    shear: float

    def matrices(self, amount: Tensor) -> Tensor:
        """Output to input coordinates in [−1, 1], [N, 2, 3], for shares `amount` [N] of the move.

        Every parameter is linear in the amount: the move is continuous, and amount 0 is the identity.
        """
        zoom = torch.exp(-self.log_zoom * amount)
        cosine, sine = torch.cos(self.turn * amount), torch.sin(self.turn * amount)
        shear = self.shear * amount
        rows = [
            torch.stack([zoom * cosine, zoom * (shear * cosine - sine), self.shift[0] * amount], dim=-1),
            torch.stack([zoom * sine, zoom * (shear * sine + cosine), self.shift[1] * amount], dim=-1),
        ]
        return torch.stack(rows, dim=1)


def draw_move(rng: np.random.Generator) -> AffineMove:
    """A random move; its sizes keep at least about half of the picture in view."""
    shift = rng.uniform(-0.25, 0.25, size=2)
    return AffineMove(
        shift=(float(shift[0]), float(shift[1])),
        log_zoom=float(rng.uniform(-0.1, 0.4)),
        turn=float(rng.uniform(-0.25, 0.25)),
        shear=float(rng.uniform(-0.2, 0.2)),
    )


def view_amounts(rng: np.random.Generator, views: int) -> Tensor:
    """Share of the move at each view, [V]: 0 at view 0, growing smoothly to 1 with a random ease."""
    steps = torch.linspace(0, 1, views) if views > 1 else torch.zeros(1)
    return steps ** float(rng.uniform(0.7, 1.5))


def warp_views(video: Tensor, move: AffineMove, amounts: Tensor) -> Tensor:
    """uint8 [F, C, H, W] seen through the move at V amounts: uint8 [V, F, C, H, W].

    What would lie outside the picture is filled by reflection, so that no black border gives the view away.
    """
    F, C, H, W = video.shape
    matrices = move.matrices(amounts)
    # The grid's axes run over [−1, 1] in both directions: a turn must know the picture's shape.
    matrices[:, 0, 1] *= H / W
    matrices[:, 1, 0] *= W / H
    pixels = repeat(video.float(), "f c h w -> (v f) c h w", v=len(amounts))
    matrices = repeat(matrices, "v i j -> (v f) i j", f=F)
    grid = functional.affine_grid(matrices, [len(matrices), C, H, W], align_corners=False)
    warped = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    return rearrange(warped.clamp(0, 255).round().to(torch.uint8), "(v f) c h w -> v f c h w", f=F)


class Pseudo4DSource:
    """Grids of V views × F frames from a folder of videos.

    Args:
        where: folder of video files, searched below it.
        resolution: pixels; side of a square, or (height, width). Pictures of another shape are cut at a random place.
        static: the camera moves and nothing else does (section 3.1's second group of videos): each view is a frame of
            the video, at all instants the same, instead of the video under a move of its own.
    """

    def __init__(
        self,
        where: str,
        views: int,
        frames: int,
        resolution: int | tuple[int, int],
        max_stride: int = 1,
        static: bool = False,
    ) -> None:
        folder = Path(where)
        if not folder.is_dir():
            raise UserError(f"no such folder of videos: {where}")
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise UserError(f"no video in {where}; looked for {', '.join(SUFFIXES)}")
        self.root, self.views, self.frames = folder, views, frames
        self.size = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.max_stride, self.static = max_stride, static
        self.name = "static videos" if static else "videos"

    def draw(self, consumer: Consumer, position: int, rng: np.random.Generator) -> GridSample:
        """See `data.sources.Source`."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        name = str(path.relative_to(self.root))
        count = self.views if self.static else self.frames
        chosen, decoded, fps = self._read(path, name, count, rng)
        stride = int(chosen[1] - chosen[0]) if count > 1 else 1
        pixels = cut_frame(rng, rearrange(torch.from_numpy(decoded), "f h w c -> f c h w"), self.size)
        facts = {"video": name, "first_frame": int(chosen[0])}
        if self.static:
            frames = repeat(pixels, "v c h w -> v f c h w", f=self.frames)
            amounts = torch.linspace(0, 1, self.views) if self.views > 1 else torch.zeros(1)
        else:
            move, amounts = draw_move(rng), view_amounts(rng, self.views)
            frames, facts = warp_views(pixels, move, amounts), {**facts, "move": repr(move)}
            fps /= stride
        turn = float(rng.choice([-1.0, 1.0])) * 30.0 * amounts[:, None].expand(self.views, self.frames)
        flat = torch.zeros(self.views, self.frames)
        cameras = Cameras(flat, torch.remainder(turn, 360.0), flat + 2.0)
        return GridSample(name, self.name, frames, cameras, fps, caption=read_caption(path), provenance=facts)

    def _read(
        self, path: Path, name: str, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Frame numbers drawn from a film, the frames [F, H, W, 3], and the film's rate."""
        try:
            film = open_film(path, max_side=4 * max(self.size))
            if film.count < count:
                raise UserError(f"{film.count} frames; {count} are drawn from each video")
            chosen = draw_frames(rng, film.count, count, self.max_stride)
            return chosen, film.frames(chosen), film.fps
        except UserError as error:
            raise CorruptSampleError(f"{name}: {error}") from error


def cut_frame(rng: np.random.Generator, video: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 [F, C, H, W] scaled until it just covers `size` (height, width) and cut to it at a random place."""
    H, W = video.shape[2:]
    height, width = size
    scale = max(height / H, width / W)
    scaled = (max(height, round(H * scale)), max(width, round(W * scale)))
    if scaled != (H, W):
        video = functional.interpolate(video.float(), scaled, mode="bilinear", antialias=True, align_corners=False)
    top, left = (int(rng.integers(extent - wanted + 1)) for extent, wanted in zip(scaled, size))
    return video[:, :, top : top + height, left : left + width].clamp(0, 255).round().to(torch.uint8)
