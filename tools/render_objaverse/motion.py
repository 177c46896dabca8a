"""Motion in pictures: how much two differ, and whether rendered frames move as the file says."""

from __future__ import annotations

import numpy as np
from PIL import Image

BACKGROUNDS = (1.0, 0.0)  # white, as SV4D measures, and black: a white object must not vanish
MOVES = 0.08  # share of the covered pixels that change from one frame to another: surely motion
LEAST = 0.34  # of the expected change that has to be seen


def over(images: np.ndarray, grey: float) -> np.ndarray:
    """Straight-alpha RGBA in [0, 1] [..., 4] on a grey background: [..., 3]."""
    alpha = images[..., 3:]
    return images[..., :3] * alpha + grey * (1.0 - alpha)


def smaller(alpha: np.ndarray, size: int) -> np.ndarray:
    """uint8 [F, H, W] averaged down (or repeated up) to size x size pixels."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX)) for frame in alpha])


def change(alpha: np.ndarray) -> np.ndarray:
    """Share of the covered pixels that differ between each pair of frames: uint8 [V, F, H, W] -> float [V, F, F]."""
    covered = (alpha > 127).reshape(*alpha.shape[:2], -1).astype(np.float32)
    both = np.einsum("vip,vjp->vij", covered, covered)
    area = covered.sum(axis=-1)
    either = area[:, :, None] + area[:, None, :] - both
    return 1.0 - both / np.maximum(either, 1.0)


def disagreement(expected: np.ndarray, rendered: np.ndarray) -> str:
    """What is wrong with rendered silhouettes uint8 [V, F, H, W], or "".

    Light, textures and alpha differ between the engines, motion does not: where the silhouette that was expected
    leaves its first place, the rendered one has to leave it as well. The pair of frames that should differ most is
    looked at in each view; a view that shows nothing is left out.
    """
    wanted, seen = change(expected), change(rendered)
    most = wanted.reshape(len(wanted), -1).argmax(axis=1)
    wanted = wanted.reshape(len(wanted), -1)[np.arange(len(wanted)), most]
    seen = seen.reshape(len(seen), -1)[np.arange(len(seen)), most]
    moving = wanted >= MOVES
    if moving.any() and (seen[moving] < LEAST * wanted[moving]).all():
        return (
            f"the rendered frames do not move as the file says: silhouettes differ by {seen[moving].max():.1%} "
            f"where {wanted[moving].max():.1%} is expected"
        )
    return ""
