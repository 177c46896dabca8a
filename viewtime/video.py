"""Video files and folders of images: decord first, PyAV where decord cannot (GIF, files cut off)."""

from __future__ import annotations

import glob as globbing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.images import IMAGE_SUFFIXES, read_image, to_uint8

DEFAULT_FPS = 12.0


@dataclass(frozen=True)
class Video:
    """Decoded frames: uint8 [F, H, W, 3 | 4], frames per second, and what the user should know of the reading."""

    frames: np.ndarray
    fps: float
    note: str = ""


def read_video(source: str | Path, max_frames: int | None = None, max_side: int | None = None) -> Video:
    """Read a video file (mp4, mov, webm, mkv, gif, …), a folder of images, or a glob of images.

    Args:
        max_frames: stop after that many frames.
        max_side: shrink while decoding so that the longer side has at most that many pixels.

    Raises:
        UserError: nothing there, not a video, or no frame can be decoded.
    """
    source = Path(source)
    if source.is_dir():
        return _read_images(
            [p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES], source, max_frames, max_side
        )
    if globbing.has_magic(str(source)) and not source.exists():
        return _read_images([Path(name) for name in globbing.glob(str(source))], source, max_frames, max_side)
    if not source.exists():
        raise UserError(f"no such video: {source}; give a video file, a folder of images, or a quoted glob")
    if source.stat().st_size == 0:
        raise UserError(f"{source} is empty (0 bytes)")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return _read_images([source], source, max_frames, max_side)
    video = _read_decord(source, max_frames, max_side)
    return video or _read_av(source, max_frames, max_side)


def _shrunk(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return max(1, round(width * scale)), max(1, round(height * scale))


def _read_images(paths: list[Path], source: Path, max_frames: int | None, max_side: int | None) -> Video:
    if not paths:
        raise UserError(f"no image in {source}; looked for {', '.join(IMAGE_SUFFIXES)}")
    frames = []
    for path in sorted(paths)[:max_frames]:
        image = read_image(path)
        if frames and image.shape[:2] != frames[0].shape[:2] and max_side is None:
            raise UserError(
                f"{path} has size {image.shape[1]}×{image.shape[0]}, the first image another; give equal sizes"
            )
        size = _shrunk(image.shape[1], image.shape[0], max_side)
        if size != (image.shape[1], image.shape[0]):
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        frames.append(image)
    if len({frame.shape for frame in frames}) > 1:
        raise UserError(f"the images of {source} differ in size or in having transparency; give them all alike")
    return Video(np.stack(frames), DEFAULT_FPS)


def _read_decord(source: Path, max_frames: int | None, max_side: int | None) -> Video | None:
    """None where decord is missing or cannot read the file whole; PyAV then tells why."""
    try:
        import decord
    except ImportError:
        return None
    if _has_alpha(source):
        return None
    try:
        reader = decord.VideoReader(str(source))
        height, width = reader[0].shape[:2]
        size = _shrunk(width, height, max_side)
        if size != (width, height):
            reader = decord.VideoReader(str(source), width=size[0], height=size[1])
        count = len(reader) if max_frames is None else min(len(reader), max_frames)
        frames = reader.get_batch(range(count)).asnumpy()
        fps = float(reader.get_avg_fps())
    except (RuntimeError, IndexError, decord._ffi.base.DECORDError):
        return None
    return Video(frames, fps if np.isfinite(fps) and fps > 0 else DEFAULT_FPS) if count else None


def _has_alpha(source: Path) -> bool:
    """Whether the file carries transparency, which decord would drop."""
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                return False
            stream = container.streams.video[0]
            if stream.metadata.get("alpha_mode") == "1":
                return True
            name = stream.format.name if stream.format is not None else ""
            return name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya", "pal8"))
    except (av.error.FFmpegError, OSError):
        return False


def _read_av(source: Path, max_frames: int | None, max_side: int | None) -> Video:
    transparent = _has_alpha(source)
    frames: list[np.ndarray] = []
    failure = ""
    fps, expected = DEFAULT_FPS, 0
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise UserError(f"{source} holds no video stream")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or DEFAULT_FPS)
            expected = stream.frames
            codec = av.CodecContext.create("libvpx-vp9", "r") if transparent and stream.name == "vp9" else None
            decoded = (
                (frame for packet in container.demux(stream) for frame in codec.decode(packet))
                if codec
                else container.decode(stream)
            )
            for frame in decoded:
                width, height = _shrunk(frame.width, frame.height, max_side)
                pixel_format = "rgba" if transparent else "rgb24"
                frames.append(frame.reformat(width, height, format=pixel_format).to_ndarray())
                if len(frames) == max_frames:
                    break
    except (av.error.FFmpegError, OSError) as error:
        failure = str(error).split(":")[0]
    if not frames:
        reason = failure or "it holds no frame"
        raise UserError(f"{source} is not a video that can be decoded: {reason}; try to convert it to mp4")
    note = ""
    if failure:
        of = f" of {expected}" if expected > len(frames) else ""
        note = f"{source.name} is damaged or cut off: using the {len(frames)} frames{of} that decode"
    return Video(np.stack(frames), fps if fps > 0 else DEFAULT_FPS, note)


def write_video(path: str | Path, frames: np.ndarray, fps: float, crf: int = 12) -> Path:
    """Write [F, H, W, 3] frames (uint8, or floats in [0, 1]) as H.264.

    4:2:0 sampling needs even sides: an odd side is extended by one repeated pixel, and the true size is what
    `FrameGrid.load` crops back to.
    """
    path = Path(path)
    pixels = to_uint8(frames)
    height, width = pixels.shape[1:3]
    pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_gif(path: str | Path, frames: np.ndarray, fps: float) -> Path:
    """Write [F, H, W, 3] frames as an endless GIF."""
    path = Path(path)
    images = [Image.fromarray(frame) for frame in to_uint8(frames)]
    with atomic_path(path) as temporary:
        images[0].save(temporary, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return path
