"""Gaussians in the compressed formats of splat viewers, one file per frame: .spz (Niantic) and .splat (antimatter15).

Both have Y up; SuperSplat plays a folder of numbered files as a sequence.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch

from viewtime.errors import UserError
from viewtime.files import atomic_folder
from viewtime.recon.export.glb_skin import to_gltf_axes
from viewtime.recon.export.ply import SH_DEGREE_0, scale_and_quaternion
from viewtime.recon.render.moving import MovingGaussians

SPZ_MAGIC, SPZ_VERSION = 0x5053474E, 2
SPZ_COLOUR = 0.15  # of a byte's range that one unit of the spherical harmonic takes
SPZ_FRACTION = 12  # bits behind the point of a coordinate, of 24
KINDS = ("spz", "splat")


def write_splat_sequence(asset: MovingGaussians, folder: Path, kind: str) -> Path:
    """frame_000.spz or frame_000.splat … in a folder.

    Raises:
        UserError: a Gaussian lies further out than the format can say.
    """
    encode = {"spz": spz_bytes, "splat": splat_bytes}[kind]
    with atomic_folder(folder, f"frame_000.{kind}", (rf"frame_\d{{3,}}\.{kind}",)) as temporary:
        for frame in range(asset.frames):
            (temporary / f"frame_{frame:03d}.{kind}").write_bytes(encode(asset, frame))
    return folder


def spz_bytes(asset: MovingGaussians, frame: int) -> bytes:
    """One frame as SPZ version 2: fixed-point places, bytes for the rest, gzipped."""
    position, scale, quaternion = _parts(asset, frame)
    limit = 2 ** (23 - SPZ_FRACTION)
    furthest = float(np.abs(position).max())
    if furthest >= limit:
        raise UserError(f"frame {frame}: a Gaussian lies {furthest:.4g} from the middle; .spz ends at {limit}")
    fixed = np.round(position * 2**SPZ_FRACTION).astype("<i4")
    places = fixed.view(np.uint8).reshape(-1, 3, 4)[:, :, :3]
    harmonic = (asset.colour.numpy() - 0.5) / SH_DEGREE_0
    turned = np.where(quaternion[:, :1] < 0, -quaternion, quaternion)[:, 1:]  # w is positive and left out
    columns = [
        places, _byte(asset.opacity.numpy() * 255), _byte(harmonic * SPZ_COLOUR * 255 + 127.5),
        _byte((np.log(scale) + 10) * 16), _byte(turned * 127.5 + 127.5),
    ]  # fmt: skip
    header = struct.pack("<IIIBBBB", SPZ_MAGIC, SPZ_VERSION, len(position), 0, SPZ_FRACTION, 0, 0)
    return gzip.compress(header + b"".join(np.ascontiguousarray(column).tobytes() for column in columns), mtime=0)


def splat_bytes(asset: MovingGaussians, frame: int) -> bytes:
    """One frame as 32 bytes a Gaussian: place and size as floats, colour with opacity and rotation as bytes."""
    position, scale, quaternion = _parts(asset, frame)
    shown = torch.cat([asset.colour, asset.opacity[:, None]], dim=1).numpy()
    record = np.dtype([("place", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("turn", "u1", 4)])
    table = np.empty(len(position), record)
    table["place"], table["scale"] = position, scale
    table["colour"], table["turn"] = _byte(shown * 255), _byte(quaternion * 128 + 128)
    order = np.argsort(-scale.prod(axis=1) * shown[:, 3], kind="stable")  # viewers show what comes first, first
    return table[order].tobytes()


def _parts(asset: MovingGaussians, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places [N, 3], standard deviations [N, 3] and quaternions (w, x, y, z) [N, 4], Y up."""
    means, covariance = asset.at(float(frame))
    scale, quaternion = (part.numpy() for part in scale_and_quaternion(covariance))
    # Turned by -90 degrees about x: the product of that quaternion with each.
    half = np.sqrt(0.5)
    w, x, y, z = quaternion.T
    turned = half * np.stack([w + x, x - w, y + z, z - y], axis=1)
    return to_gltf_axes(means.numpy()), scale, turned


def _byte(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
