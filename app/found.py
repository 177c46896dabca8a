"""A video in the app: its frames, how its object was found, and the clicks that correct the mask."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from viewtime.configs.schema.sample import PreprocessOptions
from viewtime.files import atomic_path
from viewtime.sample.input.clicked import Click, with_click
from viewtime.sample.input.doubts import doubts
from viewtime.sample.input.matte import find_matte
from viewtime.sample.input.matting_network import MattingNetwork
from viewtime.sample.input.preprocess import resample_frames, rest_of
from viewtime.sample.input.read import as_video

SHOWN_SIDE = 720  # pixels of the longer side of the picture that is clicked on
OUTLINE, DIM = (255, 40, 160), 0.4


@dataclass(frozen=True)
class FoundObject:
    """Everything about a video before it is sampled.

    Attributes:
        video: file that was dropped.
        frames: uint8 [F, H, W, 3].
        masks: alpha uint8 [F, H, W] as it was found, then after each click.
        how: by what the object was found.
        notes: what of the video is used, and how.
        doubts: what speaks against each mask.
        places: of these frames among the video's.
        read: frames of the video up to the end of what is used, for which `--mask` wants masks.
        asked, fps: most frames, and how many of them a second, as the user wants them.
    """

    video: Path
    frames: np.ndarray
    masks: tuple[np.ndarray, ...]
    how: str
    notes: tuple[str, ...]
    doubts: tuple[tuple[str, ...], ...]
    places: tuple[int, ...]
    read: int
    asked: int
    fps: float | None

    @property
    def alpha(self) -> np.ndarray:
        """The mask that counts, uint8 [F, H, W]."""
        return self.masks[-1]

    def without_last_click(self) -> FoundObject:
        """As it was before the last click."""
        if len(self.masks) == 1:
            return self
        return replace(self, masks=self.masks[:-1], doubts=self.doubts[:-1])


def find(video: Path, frames: int, fps: float | None) -> FoundObject:
    """Read the first `frames` frames of a video, at `fps`, and find its object as `viewtime sample` does.

    Raises:
        UserError: see `as_video` and `find_matte`.
    """
    read = as_video(video, frames, fps)
    used, rate, places = resample_frames(read.frames, read.fps, fps, frames)
    matte = find_matte(used, PreprocessOptions())
    rest = rest_of(read.whole, len(used), rate) if len(used) == frames else ""
    notes = tuple(filter(None, [read.note, rest]))
    colours, masks = np.ascontiguousarray(used[..., :3]), (matte.rgba[..., 3],)
    return FoundObject(
        video, colours, masks, matte.how, notes, (matte.doubts,), tuple(places), len(read.frames), frames, fps
    )


def corrected(found: FoundObject, click: Click) -> FoundObject:
    """After one more click.

    Raises:
        UserError: see `with_click`.
    """
    alpha = with_click(found.frames, found.alpha, click, MattingNetwork())
    return replace(found, masks=(*found.masks, alpha), doubts=(*found.doubts, doubts(alpha)))


def run_folder(out: Path, video: Path) -> Path:
    """The folder of a video's runs: its name and a few letters of its content's checksum."""
    digest = hashlib.sha256()
    with video.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    name = re.sub(r"[^\w.-]+", "_", video.stem)[:40] or "video"
    return out / f"{name}-{digest.hexdigest()[:8]}"


def save_masks(found: FoundObject, run: Path) -> Path | None:
    """The masks as a file that `--mask` takes; None where `viewtime sample` finds the same by itself at once.

    Masks of a network are handed on too, so that it runs once. Frames that are not used get empty ones.
    """
    if len(found.masks) == 1 and "network" not in found.how:
        return None
    masks = np.zeros((found.read, *found.alpha.shape[1:]), np.uint8)
    masks[list(found.places)] = found.alpha
    path = run / f"mask-{hashlib.sha256(masks.tobytes()).hexdigest()[:8]}.npz"
    if not path.is_file():
        run.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, masks=masks)
    return path


def shown(found: FoundObject, frame: int) -> np.ndarray:
    """uint8 [h, w, 3]: a frame with its background dark and a line around the object."""
    frame = min(frame, len(found.frames) - 1)
    height, width = found.frames.shape[1:3]
    scale = SHOWN_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.asarray(Image.fromarray(found.frames[frame]).resize(size, Image.Resampling.BILINEAR), np.float32)
    weight = np.asarray(Image.fromarray(found.alpha[frame]).resize(size, Image.Resampling.BILINEAR), np.float32) / 255
    result = picture * (DIM + (1 - DIM) * weight[..., None])
    inside = weight > 0.5
    result[np.logical_xor(ndimage.binary_dilation(inside, iterations=2), inside)] = OUTLINE
    return result.astype(np.uint8)


def click_at(found: FoundObject, frame: int, place: tuple[int, int], kind: str) -> Click:
    """A click on the picture of `shown`, (x, y) in its pixels, in the video's."""
    height, width = found.frames.shape[1:3]
    scale = max(height, width) / SHOWN_SIDE
    x, y = min(width - 1, int(place[0] * scale)), min(height - 1, int(place[1] * scale))
    return Click(min(frame, len(found.frames) - 1), x, y, kind)


def words_on(state: FoundObject) -> str:
    """How the object was found, what of the video is used, and every doubt of the mask."""
    clicks = len(state.masks) - 1
    how = f"{state.how}, then {clicks} click{'s' if clicks > 1 else ''}" if clicks else state.how
    height, width = state.frames.shape[1:3]
    lines = [f"{len(state.frames)} frames of {width} × {height} px; the object was found by {how}"]
    return "\n\n".join([*lines, *state.notes, *(f"**doubtful:** {doubt}" for doubt in state.doubts[-1])])
