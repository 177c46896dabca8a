"""Where the object is: masks that were given, the video's alpha, a plain background keyed away, a matting network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from viewtime.configs.schema.sample import PreprocessOptions
from viewtime.errors import UserError

from .connected import from_nearest
from .doubts import cut_off, doubts
from .matting_network import MattingNetwork
from .object_track import find_object

SMALLEST_OBJECT = 1e-4  # share of the picture; less is dust or compression noise
PLAIN_BORDER = 0.6  # share of the border that must have one colour for the background to be keyed
EVEN = 5 / 255  # a background that nobody painted or rendered plain varies by more than this
WAY_OUT = "Look at preview.png; give better masks with --mask FILES, or click on the object in `viewtime app`"
SURE_ALPHA = 242  # from which a pixel's colour is the object's alone


@dataclass(frozen=True)
class Matte:
    """Frames with the object's alpha.

    Attributes:
        rgba: uint8 [F, H, W, 4], straight alpha.
        how: by what the object was found.
        doubts: what speaks against the mask, one clause each.
        way_out: what the user can do about it.
    """

    rgba: np.ndarray
    how: str
    doubts: tuple[str, ...] = ()
    way_out: str = WAY_OUT

    @property
    def warning(self) -> tuple[str, ...]:
        """One sentence of all doubts and the way out; none where there is no doubt."""
        return (f"the mask is doubtful: {'; '.join(self.doubts)}. {self.way_out}",) if self.doubts else ()


def has_transparency(frames: np.ndarray) -> bool:
    """Whether uint8 frames [F, H, W, C] carry an alpha channel that says anything."""
    return frames.shape[-1] == 4 and bool((frames[..., 3] < 255).any())


def border_colour(frames: np.ndarray, tolerance: float = 0.06) -> tuple[np.ndarray, float]:
    """Median colour [3] (0..255) of the outermost pixels of all frames, and the share of them within the tolerance."""
    rgb = frames[..., :3]
    edges = [rgb[:, 0], rgb[:, -1], rgb[:, :, 0], rgb[:, :, -1]]
    border = np.concatenate([edge.reshape(-1, 3) for edge in edges]).astype(np.float32)
    colour = np.median(border, axis=0)
    near = (np.abs(border - colour).max(axis=1) <= tolerance * 255).mean()
    return colour, float(near)


def is_plain(frames: np.ndarray) -> bool:
    """Whether the background has one colour, as renders and product films have it; a photographed wall has not."""
    return border_colour(frames, EVEN)[1] >= PLAIN_BORDER


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
            "leave --preprocess.background at auto, or give masks with --mask"
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


def nearest_sure_colour(frames: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Straight colours, uint8 [F, H, W, 3]: half-transparent pixels take the rest from the nearest opaque one."""
    result = np.full((*frames.shape[:3], 3), 255, np.uint8)
    for index, (frame, weight) in enumerate(zip(frames[..., :3], alpha)):
        rows, columns = np.flatnonzero(weight.any(axis=1)), np.flatnonzero(weight.any(axis=0))
        if not len(rows):
            continue
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        inside, near, sure = frame[box], weight[box], weight[box] >= SURE_ALPHA
        straight = inside
        if sure.any():
            share = near[..., None].astype(np.float32) / 255.0
            straight = share * inside + (1 - share) * from_nearest(inside, sure) + 0.5
        result[index][box] = np.where(near[..., None] > 0, straight, 255).astype(np.uint8)
    return result


def opaque(frames: np.ndarray) -> np.ndarray:
    """RGBA of which everything is the object."""
    full = np.full((*frames.shape[:3], 1), 255, np.uint8)
    return np.concatenate([frames[..., :3], full], axis=-1)


def with_alpha(frames: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGBA of a picture over an unknown background."""
    return np.concatenate([nearest_sure_colour(frames, alpha), alpha[..., None]], axis=-1)


def keyed(frames: np.ndarray, tolerance: float) -> Matte:
    """The border's colour is the background."""
    alpha = key_background(frames, tolerance)
    colour, _ = border_colour(frames)
    how = "keying the plain background #{:02x}{:02x}{:02x} away".format(*(int(c) for c in colour))
    return Matte(np.concatenate([unmix(frames, alpha, colour), alpha[..., None]], axis=-1), how, cut_off(alpha))


def by_network(frames: np.ndarray, name: str | None) -> Matte:
    """A matting network and what moves; `name` as `find_network` takes it."""
    network = MattingNetwork(name)
    alpha, said = find_object(np.ascontiguousarray(frames[..., :3]), network)
    return Matte(with_alpha(frames, alpha), f"the network {network.name} and its motion", said)


def find_matte(frames: np.ndarray, options: PreprocessOptions, mask: np.ndarray | None = None) -> Matte:
    """The object of uint8 frames [F, H, W, 3 | 4].

    Args:
        mask: alpha uint8 [F, H, W] that the user gives; it decides.

    Raises:
        UserError: a background that cannot be keyed, or a network that is not here.
    """
    if mask is not None:
        return Matte(with_alpha(frames, mask), "the masks given", doubts(mask), "Look at preview.png")
    if options.background == "keep":
        doubt = "the whole picture is taken for the object (--preprocess.background keep): it becomes a flat card"
        return Matte(opaque(frames), "the whole picture", (doubt,))
    if options.background == "auto" and has_transparency(frames):
        return Matte(frames, "the video's own transparency", cut_off(frames[..., 3]))
    if options.background == "key" or (options.background == "auto" and is_plain(frames)):
        return keyed(frames, options.tolerance)
    return by_network(frames, options.network)
