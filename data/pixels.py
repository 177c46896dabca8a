"""A grid's pixels as one small H.264 stream: 441 frames of 128 px in about 100 kB.

Views follow each other in the stream, each a closed group of pictures that starts with a key frame, so reading 8 of
21 views decodes 8 of 21 groups. Colour lies on white in the upper half of the picture, alpha as grey in the lower
half: one stream costs one header instead of two, and a fixed background compresses to almost nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from viewtime.data.samples import CorruptSampleError
from viewtime.errors import UserError

STREAM_RATE = 25  # of the container alone: frame i lies at second i / 25; the sample's true fps is in its record
ALPHA_NOISE = 10  # of 255: the codec's ripples this close to transparent or opaque are snapped


def encode_frames(frames: Tensor, quality: int = 23) -> bytes:
    """Compress uint8 [V, F, 3 or 4, H, W] (straight alpha) to an MP4.

    Args:
        quality: x264's constant rate factor: 0 is the largest file, 51 the worst picture.

    Raises:
        UserError: an odd height or width (4:2:0 sampling needs even ones), or a quality outside 0 … 51.
    """
    _, F, C, H, W = frames.shape
    if H % 2 or W % 2:
        raise UserError(f"frames of {W} × {H} px; compressed video needs an even width and height")
    if not 0 <= quality <= 51:
        raise UserError(f"quality {quality}; x264's constant rate factor lies in 0 … 51")
    pictures = _stack_alpha(frames) if C == 4 else frames
    pictures = rearrange(pictures, "v f c h w -> (v f) h w c").contiguous().numpy()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(STREAM_RATE))
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # One thread, no lookahead beside it, and no AVX-512 (whose kernels in x264 read what lies beyond small
        # pictures): the bytes must depend on the pictures alone.
        parameters = f"keyint={F}:min-keyint={F}:scenecut=0:open-gop=0:threads=1:sync-lookahead=0:asm=SSE4.2"
        stream.options = {"crf": str(quality), "preset": "veryslow", "x264-params": parameters}
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _stack_alpha(frames: Tensor) -> Tensor:
    """uint8 [V, F, 4, H, W] -> [V, F, 3, 2H, W]: colour on white above alpha as grey."""
    values = frames.float()
    alpha = values[:, :, 3:] / 255
    on_white = (values[:, :, :3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return torch.cat([on_white, frames[:, :, 3:].expand(-1, -1, 3, -1, -1)], dim=3)


def _unstack_alpha(pictures: Tensor) -> Tensor:
    """Inverse of `_stack_alpha` up to the codec's error: straight alpha, colour undefined (white) where it is 0."""
    on_white, alpha = pictures.float().chunk(2, dim=3)
    alpha = alpha[:, :, 1:2]
    alpha = torch.where(alpha < ALPHA_NOISE, 0.0, torch.where(alpha > 255 - ALPHA_NOISE, 255.0, alpha))
    share = alpha / 255
    straight = torch.where(share > 0, (on_white - 255 * (1 - share)) / share.clamp(min=1 / 255), 255.0)
    return torch.cat([straight.clamp(0, 255), alpha], dim=2).round().to(torch.uint8)


def decode_frames(
    payload: bytes, stored_frames: int, has_alpha: bool, views: Sequence[int], frames: Sequence[int]
) -> Tensor:
    """Decode some views and frames of a stream made by `encode_frames`.

    Args:
        stored_frames: F of the stored grid, the length of a group of pictures.
        views, frames: indices into the stored grid, in the order wanted.

    Returns:
        uint8 [V', F', 3 or 4, H, W].

    Raises:
        CorruptSampleError: the bytes are no such stream, or a frame is missing.
    """
    try:
        with av.open(io.BytesIO(payload), metadata_errors="replace") as container:
            container.streams.video[0].codec_context.thread_count = 1
            rows = {view: _decode_view(container, view, stored_frames, set(frames)) for view in sorted(set(views))}
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise CorruptSampleError(f"frames.mp4 cannot be decoded: {error}") from error
    grid = np.stack([np.stack([rows[view][frame] for frame in frames]) for view in views])
    pictures = rearrange(torch.from_numpy(grid), "v f h w c -> v f c h w")
    return _unstack_alpha(pictures) if has_alpha else pictures


def _decode_view(
    container: av.container.InputContainer, view: int, stored_frames: int, wanted: set[int]
) -> dict[int, np.ndarray]:
    """The wanted frames of one group of pictures, frame index -> uint8 [H, W, 3]."""
    stream = container.streams.video[0]
    first = view * stored_frames
    container.seek(round(first / STREAM_RATE / stream.time_base), stream=stream)
    found: dict[int, np.ndarray] = {}
    for picture in container.decode(stream):
        frame = round(float(picture.pts * stream.time_base) * STREAM_RATE) - first
        if frame in wanted:
            found[frame] = picture.to_ndarray(format="rgb24")
        if frame >= max(wanted):
            break
    if missing := sorted(wanted - set(found)):
        raise CorruptSampleError(f"frames.mp4 has no frame {missing[0]} of view {view}")
    return found


def resize_frames(frames: Tensor, resolution: int) -> Tensor:
    """uint8 [V, F, 3 or 4, H, W] -> shorter side `resolution`, antialiased, colours weighted by alpha.

    Raises:
        UserError: the resolution is below 8 pixels.
    """
    H, W = frames.shape[-2:]
    if resolution < 8:
        raise UserError(f"resolution {resolution}; must be at least 8 pixels")
    if min(H, W) == resolution:
        return frames
    scale = resolution / min(H, W)
    return _resized(frames, (round(H * scale), round(W * scale)))


def cover_frames(frames: Tensor, height: int, width: int) -> tuple[Tensor, float]:
    """Scale uint8 [V, F, 3 or 4, H, W] until both sides reach the size, and cut what stands out, alike on both sides.

    Returns:
        (uint8 [V, F, 3 or 4, height, width], share of the pictures' height that is left).
    """
    H, W = frames.shape[-2:]
    scale = max(height / H, width / W)
    size = max(height, round(H * scale)), max(width, round(W * scale))
    if size != (H, W):
        frames = _resized(frames, size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return frames[..., top : top + height, left : left + width].contiguous(), height / size[0]


def _resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    V, _, C, _, _ = frames.shape
    values = rearrange(frames, "v f c h w -> (v f) c h w").float()
    if C == 4:
        values = torch.cat([values[:, :3] * values[:, 3:] / 255, values[:, 3:]], dim=1)
    values = functional.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)
    if C == 4:
        alpha = values[:, 3:]
        values = torch.cat([values[:, :3] * 255 / alpha.clamp(min=0.5), alpha], dim=1)
    values = values.clamp(0, 255).round().to(torch.uint8)
    return rearrange(values, "(v f) c h w -> v f c h w", v=V)
