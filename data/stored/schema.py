"""What a training shard holds: member names, dtypes, shapes and the format version.

One sample is one object-orbit: V views × F frames of one clip. Its tar members share a key and carry these
extensions (WebDataset's naming), so that any WebDataset reader can open a shard too:

| extension | holds | dtype and shape |
|---|---|---|
| `meta.json` | `SampleRecord`: version, id, source, fps, cameras, frame indices, table of the arrays | JSON |
| `frames.mp4` | colour on white over alpha, view after view, one key frame a view (`data.pixels`) | H.264 |
| `latents.npy` | VAE latents, times the VAE's scale factor (paper A.1) | float16 [V, F, 4, H/8, W/8] |
| `clip.npy` | CLIP image embeddings | float16 [V, F, D] |

A sample has `frames.mp4` or `latents.npy` (or both); `clip.npy` goes with latents.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.json_files import parse_json

FORMAT_VERSION = 1
META, PIXELS, LATENTS, CLIP = "meta.json", "frames.mp4", "latents.npy", "clip.npy"
ARRAY_AXES = {LATENTS: ("views", "frames", "channels", "height", "width"), CLIP: ("views", "frames", "features")}
ARRAY_DTYPE = "float16"


Size = Annotated[int, Meta(ge=1, le=1 << 16)]


@dataclass(frozen=True)
class _Version:
    version: int


@dataclass(frozen=True)
class SampleRecord:
    """The JSON member of a sample.

    Attributes:
        version: format version; readers refuse a newer one.
        id: unique in the data set, e.g. "khronos_Fox/Walk/orbit0".
        source: where it came from, e.g. "objaverse", "folder", "video".
        views, frames, height, width: of the stored grid.
        has_alpha: whether the pixels carry an alpha channel.
        fps: frames per second of the stored frames.
        cameras: `Cameras.to_json()`; one frame of it where the cameras stand still during the clip.
        frame_times: second in the clip of each stored frame, [F].
        arrays: extension -> shape of each array member.
        provenance: free facts: asset, clip, licence, author, engine.
    """

    version: int
    id: str
    source: str
    views: Size
    frames: Size
    height: Size
    width: Size
    has_alpha: bool
    fps: Annotated[float, Meta(gt=0, le=1e6)]
    cameras: dict[str, Any]
    frame_times: list[float]
    arrays: dict[str, list[int]]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self)

    @staticmethod
    def from_json(text: bytes) -> SampleRecord:
        """Check the version, the keys and their types.

        Raises:
            UserError: the version is newer than this reader, a key is missing, or a value is of another type.
        """
        version = parse_json(text, _Version, META).version
        if not 1 <= version <= FORMAT_VERSION:
            raise UserError(
                f"sample has format version {version}; this reader knows versions 1 to {FORMAT_VERSION}: "
                "update viewtime or encode the data again"
            )
        return parse_json(text, SampleRecord, META)


def pack_cameras(cameras: Cameras) -> dict[str, Any]:
    """JSON form of cameras [V, F], with F = 1 where no camera moves: 441 equal entries would be a sixth of a sample."""
    values = (cameras.elevation, cameras.azimuth, cameras.distance)
    still = all(bool((value == value[:, :1]).all()) for value in values)
    return (cameras[:, :1] if still else cameras).to_json()


def unpack_cameras(record: SampleRecord) -> Cameras:
    """The cameras [V, F] of a sample.

    Raises:
        UserError: their number does not fit the grid.
    """
    cameras = Cameras.from_json(record.cameras)
    if cameras.shape == (record.views, 1):
        cameras = cameras[:, [0] * record.frames]
    if cameras.shape != (record.views, record.frames):
        raise UserError(f"cameras are {cameras.shape}, the grid is {record.views} × {record.frames}")
    return cameras


def check_array(extension: str, array: np.ndarray, record: SampleRecord) -> np.ndarray:
    """Return the array if it is what the record promises.

    Raises:
        UserError: wrong dtype or shape, a value that is not finite, or another number of views or frames.
    """
    shape, promised = list(array.shape), record.arrays.get(extension)
    if str(array.dtype) != ARRAY_DTYPE or shape != promised or len(shape) != len(ARRAY_AXES[extension]):
        raise UserError(f"{extension} is {array.dtype} {shape}; the record promises {ARRAY_DTYPE} {promised}")
    if shape[:2] != [record.views, record.frames]:
        raise UserError(f"{extension} holds a {shape[0]} × {shape[1]} grid; record: {record.views} × {record.frames}")
    if not np.isfinite(array).all():
        raise UserError(f"{extension} has values that are not finite")
    return array
