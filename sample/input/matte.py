"""Where the object is: alpha that came with the video, a plain background keyed away, or a matting network."""

from __future__ import annotations

import numpy as np

from viewtime.errors import UserError, require

SMALLEST_OBJECT = 1e-4  # share of the picture; less is dust or compression noise
PLAIN_BORDER = 0.6  # share of the border that must have one colour for the background to be keyed


def has_transparency(frames: np.ndarray) -> bool:
    """Whether uint8 frames [F, H, W, C] carry an alpha channel that says anything."""
    return frames.shape[-1] == 4 and bool((frames[..., 3] < 255).any())


def border_colour(frames: np.ndarray) -> tuple[np.ndarray, float]:
    """Median colour [3] (0..255) of the outermost pixels of all frames, and the share of them near it."""
    rgb = frames[..., :3]
    edges = [rgb[:, 0], rgb[:, -1], rgb[:, :, 0], rgb[:, :, -1]]
    border = np.concatenate([edge.reshape(-1, 3) for edge in edges]).astype(np.float32)
    colour = np.median(border, axis=0)
    near = (np.abs(border - colour).max(axis=1) <= 0.06 * 255).mean()
    return colour, float(near)


def key_background(frames: np.ndarray, tolerance: float) -> np.ndarray:
    """Alpha uint8 [F, H, W]: 0 near the border's colour, 255 beyond twice the tolerance, a ramp between.

    The ramp keeps the soft edge of compressed video; enclosed parts of the background's colour become holes.

    Raises:
        UserError: the border has no one colour.
    """
    colour, share = border_colour(frames)
    if share < PLAIN_BORDER:
        raise UserError(
            f"the background is not plain: {share:.0%} of the border has one colour, {PLAIN_BORDER:.0%} is needed; "
            "give a video with alpha, or use --preprocess.background remove, or keep"
        )
    alpha = np.empty(frames.shape[:3], np.uint8)
    limit = max(tolerance, 1 / 255)
    for index, frame in enumerate(frames):
        distance = np.abs(frame[..., :3].astype(np.float32) - colour).max(axis=-1) / 255.0
        alpha[index] = (np.clip((distance - limit) / limit, 0, 1) * 255 + 0.5).astype(np.uint8)
    return alpha


def unmix(frames: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Straight colours of the object, uint8 [F, H, W, 3]: half-transparent pixels lose the background's share."""
    result = np.empty((*frames.shape[:3], 3), np.uint8)
    for index, (frame, weight) in enumerate(zip(frames, alpha)):
        share = weight[..., None].astype(np.float32) / 255.0
        straight = (frame[..., :3].astype(np.float32) - (1 - share) * colour) / np.maximum(share, 0.1)
        result[index] = np.where(share > 0, np.clip(straight + 0.5, 0, 255), 255).astype(np.uint8)
    return result


def remove_background(frames: np.ndarray) -> np.ndarray:
    """RGBA uint8 [F, H, W, 4] by rembg's matting network.

    Raises:
        UserError: rembg is not installed, or its model cannot be had.
    """
    rembg = require("rembg", "matte")
    try:
        session = rembg.new_session("u2net")
        return np.stack(
            [np.asarray(rembg.remove(np.ascontiguousarray(frame[..., :3]), session=session)) for frame in frames]
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"rembg could not remove the background: {error}; give a video with alpha or a plain background"
        ) from error


def to_rgba(frames: np.ndarray, background: str, tolerance: float) -> np.ndarray:
    """RGBA uint8 [F, H, W, 4], straight alpha.

    Args:
        background: "auto", "key", "remove" or "keep"; see `PreprocessOptions`.
    """
    if background == "keep":
        full = np.full((*frames.shape[:3], 1), 255, np.uint8)
        return np.concatenate([frames[..., :3], full], axis=-1)
    if background == "remove":
        return remove_background(frames)
    if background == "auto" and has_transparency(frames):
        return frames
    alpha = key_background(frames, tolerance)
    colour, _ = border_colour(frames)
    return np.concatenate([unmix(frames, alpha, colour), alpha[..., None]], axis=-1)
