"""Video files, animated images and folders of images: upright, with square pixels, at an even rate."""

from __future__ import annotations

import glob as globbing
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path

import av
import numpy as np
from PIL import Image

from viewtime.errors import UserError
from viewtime.exact_film import BITEXACT
from viewtime.files import atomic_path
from viewtime.hdr import HLG, PQ, to_screen
from viewtime.image_files import (
    IMAGE_SUFFIXES,
    MOST_PIXELS,
    is_hidden,
    natural_order,
    read_animation,
    read_image,
)
from viewtime.images import to_uint8
from viewtime.memory import check_memory
from viewtime.timing import even_times
from viewtime.where import refuse_address

DEFAULT_FPS = 12.0
NO_RATE = f"{{}} no frame rate: {DEFAULT_FPS:g} a second are taken for it"
LOST_BY_EDITING = 2  # frames that a container counts and its edit list leaves out
ALPHA_FORMATS = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya", "pal8")


@dataclass(frozen=True)
class Video:
    """Decoded frames: uint8 [F, H, W, 3 | 4], frames per second, and what the user should know of the reading.

    `whole` is the length of the source in seconds where it says so, which is more than these frames where only its
    beginning was read.
    """

    frames: np.ndarray
    fps: float
    note: str = ""
    whole: float = 0.0


def read_video(
    source: str | Path, max_frames: int | None = None, max_side: int | None = None, seconds: float | None = None
) -> Video:
    """Read a video file, an image file, or a folder or glob of images in the order of the numbers in their names.

    All frames of an animated image (GIF, WebP, APNG, AVIF, TIFF) are read.

    Rotation and pixels that are not square are undone, HDR is brought to an ordinary screen's range, and frames at
    uneven times are brought to an even rate.

    Args:
        max_frames: stop after that many frames.
        max_side: shrink while decoding so that the longer side has at most that many pixels.
        seconds: stop after that much of the video, in place of `max_frames`.

    Raises:
        UserError: nothing there, an address, not a video, too large, or no frame can be decoded.
    """
    refuse_address(str(source))
    source = Path(source)
    untimed = max_frames if seconds is None else ceil(seconds * DEFAULT_FPS)
    if source.is_dir():
        return _read_images(list(source.iterdir()), source, untimed, max_side)
    if globbing.has_magic(str(source)) and not source.exists():
        return _read_images([Path(name) for name in globbing.glob(str(source))], source, untimed, max_side)
    if not source.exists():
        raise UserError(f"no such video: {source}; give a video file, a folder of images, or a quoted glob")
    if source.stat().st_size == 0:
        raise UserError(f"{source} is empty (0 bytes)")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return _read_animation(source, max_frames, max_side, seconds)
    return _read_film(source, max_frames, max_side, seconds)


def _shrunk(width: float, height: float, max_side: int | None) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shrink(image: np.ndarray, max_side: int | None) -> np.ndarray:
    size = _shrunk(image.shape[1], image.shape[0], max_side)
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _read_images(paths: list[Path], source: Path, max_frames: int | None, max_side: int | None) -> Video:
    wanted = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)]
    if not wanted:
        raise UserError(f"no image in {source}; looked for {', '.join(IMAGE_SUFFIXES)}")
    frames: list[np.ndarray] = []
    size = (0, 0)
    for path in sorted(wanted, key=natural_order)[:max_frames]:
        image = read_image(path)
        if not frames:
            size = image.shape[:2]
        elif image.shape[:2] != size:
            raise UserError(
                f"{path} has {image.shape[1]} × {image.shape[0]} pixels, the first image {size[1]} × {size[0]}; "
                "give images of one size"
            )
        elif image.shape[2] != frames[0].shape[2]:
            raise UserError(f"{path} {_has(image)} transparency, unlike the first image; give them all alike")
        check_memory(2 * image.nbytes * (len(frames) + 1), f"{source} (use --frames)")
        frames.append(_shrink(image, max_side))
    note = NO_RATE.format("images have") if len(wanted) > 1 else ""
    return Video(np.stack(frames), DEFAULT_FPS, note, len(wanted) / DEFAULT_FPS)


def _has(image: np.ndarray) -> str:
    return "has" if image.shape[2] == 4 else "has no"


def _read_animation(source: Path, max_frames: int | None, max_side: int | None, seconds: float | None) -> Video:
    animation = read_animation(source, max_frames, seconds)
    frames = np.stack([_shrink(frame, max_side) for frame in animation.frames])
    if animation.durations is None:
        untimed = NO_RATE.format(f"{source.name} says") if animation.count > 1 else ""
        return Video(frames, DEFAULT_FPS, "; ".join(filter(None, [animation.note, untimed])))
    starts = np.concatenate([[0.0], np.cumsum(animation.durations[:-1])])
    even = _even(source, frames, starts, animation.durations[-1], DEFAULT_FPS, max_frames, animation.note)
    return replace(even, whole=animation.count * sum(animation.durations) / len(animation.durations))


def _even(
    source: Path, frames: np.ndarray, times: np.ndarray, last: float | None, fps: float, most: int | None, note: str
) -> Video:
    """Frames at their times (seconds) as a video of an even rate; `fps` where the times say nothing."""
    chosen, rate, uneven = even_times(times, last)
    if uneven:
        words = f"{source.name} has a variable frame rate: brought to {rate:.4g} frames per second"
        note = f"{note}; {words}" if note else words
        frames = frames[chosen[:most]]
    if not uneven and (rate <= 0 or abs(rate - fps) < 0.001 * fps):
        rate = fps  # what the file says of itself is exact
    return Video(frames, rate, note)


def _read_film(source: Path, max_frames: int | None, max_side: int | None, seconds: float | None) -> Video:
    frames: list[np.ndarray] = []
    times: list[float | None] = []
    failure, hdr, last, stopped = "", False, None, False
    fps, expected, whole = DEFAULT_FPS, 0, 0.0
    try:
        with av.open(str(source), metadata_errors="replace") as container:
            if not container.streams.video:
                raise UserError(f"{source} holds no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(f"{source} holds a video of a format that nothing here decodes; convert it to mp4")
            fps = float(stream.average_rate or 0)
            expected = stream.frames
            whole = (container.duration or 0) / av.time_base
            if stream.duration and stream.time_base:  # sound may go on after the film
                whole = float(stream.duration * stream.time_base)
            reader = _FrameReader(stream, max_side)
            for frame in _decoded(container, stream, reader.transparent):
                frames.append(reader(frame, frames[0].shape if frames else None))
                times.append(frame.time)
                hdr |= frame.color_trc in (PQ, HLG)
                last = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else None
                check_memory(2 * frames[0].nbytes * len(frames), f"{source} (use --frames)")
                shown = _shows(times, fps if fps > 0 else DEFAULT_FPS, last)
                if len(frames) == max_frames or (seconds is not None and shown >= seconds):
                    stopped = True
                    break
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        failure = str(error).split(":")[0]
    if not frames:
        reason = failure or "it holds no frame"
        raise UserError(f"{source} is not a video that can be decoded: {reason}; try to convert it to mp4")
    notes = []
    if failure or (not stopped and len(frames) < expected - LOST_BY_EDITING):
        of = f" of {expected}" if expected > len(frames) else ""
        notes.append(f"{source.name} is damaged or cut off: using the {len(frames)} frames{of} that decode")
    if hdr:
        notes.append(f"{source.name} is HDR: highlights above 203 cd/m² are cut to white")
    known = [time for time in times if time is not None]
    rising = len(known) == len(times) and all(a < b for a, b in pairwise(known))
    if not rising and fps <= 0 and len(frames) > 1:
        notes.append(NO_RATE.format(f"{source.name} says"))
    fps = fps if fps > 0 else DEFAULT_FPS
    if not rising:
        return Video(np.stack(frames), fps, "; ".join(notes), whole)
    usual = last if last is not None and len(known) > 1 and last < 10 * (known[-1] - known[0]) else None
    even = _even(source, np.stack(frames), np.array(known), usual, fps, max_frames, "; ".join(notes))
    return replace(even, whole=whole)


def _shows(times: list[float | None], fps: float, last: float | None) -> float:
    """Seconds that the frames decoded so far are shown."""
    if times[0] is None or times[-1] is None:
        return len(times) / fps
    return times[-1] - times[0] + (last or 1 / fps)


def _decoded(container: av.container.InputContainer, stream: av.VideoStream, transparent: bool) -> Iterator:
    """Frames in the order in which they are shown; FFmpeg's own VP9 decoder would drop the alpha."""
    stream.thread_type = "AUTO"
    if transparent and stream.name == "vp9":
        codec = av.CodecContext.create("libvpx-vp9", "r")
        return (frame for packet in container.demux(stream) for frame in codec.decode(packet))
    return iter(container.decode(stream))


class _FrameReader:
    """Makes pixels of decoded frames: upright, square, 8 bits; uint8 [H, W, 3 | 4]."""

    def __init__(self, stream: av.VideoStream, max_side: int | None) -> None:
        name = stream.format.name if stream.format is not None else ""
        self.transparent = stream.metadata.get("alpha_mode") == "1" or name.startswith(ALPHA_FORMATS)
        self.aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        self.max_side = max_side
        if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
            raise UserError(too_large(stream.codec_context.width, stream.codec_context.height))

    def __call__(self, frame: av.VideoFrame, like: tuple[int, ...] | None) -> np.ndarray:
        width, height = frame.width * max(self.aspect, 1.0), frame.height / min(self.aspect, 1.0)
        if width * height > MOST_PIXELS:
            raise UserError(too_large(width, height))
        size = _shrunk(width, height, self.max_side)
        if frame.color_trc in (PQ, HLG) and not self.transparent:
            deep = frame.reformat(*size, format="rgb48le").to_ndarray()
            pixels = to_screen(deep / 65535.0, int(frame.color_trc), int(frame.color_primaries))
        else:
            pixels = frame.reformat(*size, format="rgba" if self.transparent else "rgb24").to_ndarray()
        pixels = upright(pixels, display_matrix(frame))
        if like is not None and pixels.shape != like:  # a stream that changes its size on the way
            pixels = np.asarray(Image.fromarray(pixels).resize((like[1], like[0]), Image.Resampling.LANCZOS))
        return pixels


def too_large(width: float, height: float) -> str:
    """What to say of frames that are not read."""
    return f"frames of {width:.0f} × {height:.0f} pixels; at most {MOST_PIXELS / 1e6:.0f} million: make them smaller"


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Signs of (a, b, c, d): a shown point is (a x + c y, b x + d y), y down. (1, 0, 0, 1) where no one says."""
    for item in frame.side_data:
        if item.type.name == "DISPLAYMATRIX" and item.buffer_size >= 36:
            a, b, _, c, d, *_ = struct.unpack_from("<9i", bytes(item))  # type: ignore[arg-type]
            largest = max(map(abs, (a, b, c, d)))
            a, b, c, d = (0 if 2 * abs(value) < largest else (value > 0) - (value < 0) for value in (a, b, c, d))
            if (a * d != 0 and b == c == 0) or (b * c != 0 and a == d == 0):
                return a, b, c, d
    return 1, 0, 0, 1


def upright(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """[H, W, C] as it is to be shown; quarter turns and mirror images."""
    a, b, c, d = matrix
    if a == 0:
        pixels = pixels.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x:
        pixels = pixels[:, ::-1]
    if flip_y:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


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


def write_webm(path: str | Path, frames: np.ndarray, fps: float, crf: int = 18) -> Path:
    """Write [F, H, W, 4] frames with straight alpha (uint8, or floats in [0, 1]) as VP9 with an alpha layer."""
    path = Path(path)
    pixels = to_uint8(frames)
    pixels = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", container_options=BITEXACT) as container:
        stream = container.add_stream("libvpx-vp9", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuva420p"
        stream.options = {"crf": str(crf), "b": "0", "cpu-used": "4", "auto-alt-ref": "0"}  # alt refs drop the alpha
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgba")))
        container.mux(stream.encode())
    return path


def write_gif(path: str | Path, frames: np.ndarray, fps: float) -> Path:
    """Write [F, H, W, 3] frames as an endless GIF."""
    path = Path(path)
    images = [Image.fromarray(frame) for frame in to_uint8(frames)]
    with atomic_path(path) as temporary:
        images[0].save(temporary, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return path
