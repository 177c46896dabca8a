"""Lenses of real cameras: pictures taken through one are brought to the pin-hole that grids have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

NEGLIGIBLE = 0.05  # pixels by which a lens may differ from the pin-hole before pictures are resampled


@dataclass(frozen=True)
class Lens:
    """OpenCV's camera model; lengths in pixels of a picture of this width and height.

    Attributes:
        fl_x, fl_y: focal lengths. cx, cy: principal point, pixel centres at half-integers.
        k1, k2, k3: radial distortion. p1, p2: tangential.
    """

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    def places(self, focal: float, width: int, height: int) -> np.ndarray:
        """Where the rays through the pixel centres of a pin-hole picture meet this one's, [H, W, 2] (x, y).

        The pin-hole has square pixels, this focal length, and its principal point in the middle.
        """
        x = (np.arange(width) + 0.5 - width / 2)[None] / focal
        y = (np.arange(height) + 0.5 - height / 2)[:, None] / focal
        square = x**2 + y**2
        radial = 1 + square * (self.k1 + square * (self.k2 + square * self.k3))
        distorted_x = x * radial + 2 * self.p1 * x * y + self.p2 * (square + 2 * x**2)
        distorted_y = y * radial + self.p1 * (square + 2 * y**2) + 2 * self.p2 * x * y
        return np.stack([self.fl_x * distorted_x + self.cx, self.fl_y * distorted_y + self.cy], axis=-1)

    def straighten(self, pixels: np.ndarray, focal: float) -> np.ndarray:
        """A picture uint8 [H, W, C] as the pin-hole of this focal length would have taken it, same size.

        Beyond the picture it is transparent, or, without alpha, as its edge. Straight colours are weighted by alpha.
        """
        height, width, channels = pixels.shape
        places = self.places(focal, width, height)
        ideal = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
        if np.abs(places - ideal).max() <= NEGLIGIBLE:
            return pixels
        at = np.stack([places[..., 1] - 0.5, places[..., 0] - 0.5])
        values = pixels.astype(np.float64)
        if channels == 4:
            values = np.concatenate([values[..., :3] * values[..., 3:] / 255, values[..., 3:]], axis=-1)
        mode = "constant" if channels == 4 else "nearest"
        moved = np.stack([map_coordinates(values[..., c], at, order=1, mode=mode) for c in range(channels)], axis=-1)
        if channels == 4:
            alpha = moved[..., 3:]
            moved[..., :3] = np.where(alpha > 0, moved[..., :3] * 255 / np.maximum(alpha, 1e-3), 255)
        return np.clip(moved + 0.5, 0, 255).astype(np.uint8)
