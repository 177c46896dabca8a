"""Still images: writing, and contact sheets; reading is `viewtime.image_files`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

from viewtime.files import atomic_path
from viewtime.image_files import read_image as read_image


def to_uint8(pixels: np.ndarray | Tensor) -> np.ndarray:
    """Floats in [0, 1] or uint8, any shape, to uint8 with rounding."""
    if isinstance(pixels, Tensor):
        pixels = pixels.detach().cpu().numpy()
    if pixels.dtype == np.uint8:
        return pixels
    return (np.clip(pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def write_image(path: str | Path, pixels: np.ndarray | Tensor) -> Path:
    """Write [H, W, 1 | 3 | 4] pixels (uint8, or floats in [0, 1]) under the format that the suffix names."""
    path = Path(path)
    array = to_uint8(pixels)
    with atomic_path(path) as temporary:
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(temporary)
    return path


def composite(pixels: Tensor, background: float = 1.0) -> Tensor:
    """[..., 4, H, W] straight alpha over a grey level -> [..., 3, H, W]; three channels pass unchanged."""
    if pixels.shape[-3] == 3:
        return pixels
    rgb, alpha = pixels[..., :3, :, :], pixels[..., 3:, :, :]
    return rgb * alpha + background * (1.0 - alpha)


def contact_sheet(frames: Tensor, path: str | Path, **layout: Any) -> Path:
    """Write a table of pictures; see `sheet`."""
    return write_image(path, sheet(frames, **layout))


def sheet(
    frames: Tensor,
    *,
    row_labels: list[str] | None = None,
    column_labels: list[str] | None = None,
    cell_size: int | None = None,
    max_columns: int | None = None,
) -> np.ndarray:
    """A table of pictures, uint8 [H, W, 3], one row per view and one column per frame.

    Args:
        frames: [R, C, 3 | 4, H, W] in [0, 1]; alpha is composited on white.
        row_labels, column_labels: short texts beside the rows and above the columns.
        cell_size: height of a cell in pixels; nearest-neighbour where it enlarges. Default: at least 96.
        max_columns: at most that many columns, evenly spaced.
    """
    rgb = composite(frames.float())
    if max_columns is not None and rgb.shape[1] > max_columns:
        columns = torch.linspace(0, rgb.shape[1] - 1, max_columns).round().long()
        rgb = rgb[:, columns]
        column_labels = [column_labels[index] for index in columns] if column_labels else None
    rows, columns_count, _, height, width = rgb.shape
    cell_height = cell_size or max(height, 96)
    cell_width = max(1, round(width * cell_height / height))
    left, top = (72 if row_labels else 0), (16 if column_labels else 0)
    table = Image.new("RGB", (left + columns_count * cell_width, top + rows * cell_height), "white")
    draw = ImageDraw.Draw(table)
    cells = to_uint8(rearrange(rgb, "r c ch h w -> r c h w ch"))
    resample = Image.Resampling.NEAREST if cell_height >= height else Image.Resampling.LANCZOS
    for row in range(rows):
        if row_labels:
            draw.text((4, top + row * cell_height + cell_height // 2 - 6), row_labels[row], fill="black")
        for column in range(columns_count):
            cell = Image.fromarray(cells[row, column]).resize((cell_width, cell_height), resample)
            table.paste(cell, (left + column * cell_width, top + row * cell_height))
    for column in range(columns_count if column_labels else 0):
        draw.text((left + column * cell_width + 4, 2), column_labels[column], fill="black")  # type: ignore[index]
    return np.asarray(table)
