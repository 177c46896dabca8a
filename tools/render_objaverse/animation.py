"""Clips of a glTF file: what moves when. Channels with the same key times are sampled together in one numpy call.

glTF 2.0, section 3.11 and appendix C (interpolation): STEP, LINEAR (slerp for rotations) and CUBICSPLINE.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .gltf_file import AssetError, GltfFile

Property = Literal["translation", "rotation", "scale", "weights"]
PROPERTY_WIDTH = {"translation": 3, "rotation": 4, "scale": 3}


@dataclass
class Track:
    """C channels of one property that share key times and interpolation.

    Attributes:
        nodes: int [C].
        times: float64 [K] seconds that never decrease; two equal ones are a jump.
        values: float32 [C, K, D]; for CUBICSPLINE [C, K, 3, D]: in-tangent, value, out-tangent.
    """

    property: Property
    interpolation: str
    nodes: np.ndarray
    times: np.ndarray
    values: np.ndarray

    def sample(self, times: np.ndarray) -> np.ndarray:
        """Values at `times` [F] in seconds, clamped to the first and last key: float32 [C, F, D]."""
        if self.interpolation == "CUBICSPLINE":
            return self._unit(self._cubic(times))
        key, fraction = self._locate(times)
        if self.interpolation == "STEP" or len(self.times) == 1:
            # A time equal to a key's belongs to that key, the last one included. Files hold float32: a key meant for
            # frame 8 of 24 a second lies a rounding after 8/24 s as often as before it.
            meant = times + key_rounding(times)
            held = np.clip(np.searchsorted(self.times, meant, side="right") - 1, 0, len(self.times) - 1)
            return self._unit(self.values[:, held])
        low, high = self.values[:, key], self.values[:, key + 1]
        weight = fraction[None, :, None].astype(np.float32)
        if self.property == "rotation":
            return slerp(low, high, weight)
        return low + (high - low) * weight

    def _locate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Left key of each time's interval and the position within it in [0, 1]."""
        if len(self.times) == 1:
            return np.zeros(len(times), np.int64), np.zeros(len(times))
        key = np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, len(self.times) - 2)
        span = self.times[key + 1] - self.times[key]
        # Two keys at one time are a jump: from that time on, the second one holds.
        fraction = np.where(span > 0, (times - self.times[key]) / np.where(span > 0, span, 1.0), 1.0)
        return key, np.clip(fraction, 0.0, 1.0)

    def _cubic(self, times: np.ndarray) -> np.ndarray:
        """Cubic Hermite spline; the stored tangents are per second and are scaled by the interval."""
        if len(self.times) == 1:
            return np.repeat(self.values[:, :1, 1], len(times), axis=1)
        key, fraction = self._locate(times)
        t = fraction[None, :, None].astype(np.float32)
        interval = (self.times[key + 1] - self.times[key])[None, :, None].astype(np.float32)
        start, end = self.values[:, key, 1], self.values[:, key + 1, 1]
        leaving, arriving = interval * self.values[:, key, 2], interval * self.values[:, key + 1, 0]
        t2, t3 = t * t, t * t * t
        return (
            (2 * t3 - 3 * t2 + 1) * start + (t3 - 2 * t2 + t) * leaving + (3 * t2 - 2 * t3) * end + (t3 - t2) * arriving
        )

    def _unit(self, values: np.ndarray) -> np.ndarray:
        if self.property != "rotation":
            return values
        return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


@dataclass
class Clip:
    """One animation of the file: a name, its time range in seconds and its tracks."""

    name: str
    start: float
    end: float
    tracks: list[Track] = field(default_factory=list)

    @property
    def duration(self) -> float:
        """Seconds between the first and the last key."""
        return self.end - self.start

    @property
    def keys(self) -> int:
        """Number of distinct key times, the animated frames that the file holds."""
        return len(np.unique(np.concatenate([track.times for track in self.tracks]))) if self.tracks else 0

    def frame_times(self, frames: int) -> np.ndarray:
        """`frames` evenly spaced seconds over the clip, both ends included: float64 [F]."""
        return np.linspace(self.start, self.end, frames)


def key_rounding(times: np.ndarray) -> np.ndarray:
    """Seconds by which a key of a file, a float32, may miss the time that was meant."""
    return 2 * np.spacing(np.abs(times).astype(np.float32)).astype(np.float64)


def slerp(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Spherical interpolation of unit quaternions [..., 4] along the shorter arc; linear where they are close."""
    cosine = np.sum(low * high, axis=-1, keepdims=True)
    high = np.where(cosine < 0, -high, high)
    cosine = np.clip(np.abs(cosine), 0.0, 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    near = sine < 1e-4
    safe = np.where(near, 1.0, sine)
    first = np.where(near, 1 - weight, np.sin((1 - weight) * angle) / safe)
    second = np.where(near, weight, np.sin(weight * angle) / safe)
    result = first * low + second * high
    return (result / np.maximum(np.linalg.norm(result, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


@dataclass(frozen=True)
class BadClip:
    """An animation that cannot be played; the others of its file can. `reason` is a stable word."""

    name: str
    reason: str
    message: str


def read_clips(file: GltfFile, morph_counts: dict[int, int]) -> tuple[list[Clip], list[BadClip]]:
    """Every animation of the file in its order: those that can be played, and the others with their reasons.

    Args:
        morph_counts: number of morph targets of each node's mesh (nodes without are absent).

    Raises:
        AssetError: "too_large"; where no animation can be played, the reason of the first one: "key_times" (not
            finite, decreasing, or beyond `Limits.clip_seconds`), "non_finite", "unsupported", "bad_structure".
    """
    used: set[str] = set()
    clips: list[Clip] = []
    bad: list[tuple[BadClip, AssetError]] = []
    total = 0
    for number, entry in enumerate(file.items("animations")):
        name = _unused_name(str(entry.get("name") or f"animation_{number}"), used)
        try:
            groups = _read_channels(file, entry, morph_counts, name)
            clip = _make_clip(file, name, groups)
        except AssetError as error:
            bad.append((BadClip(name, error.reason, str(error)), error))
            continue
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            words = f"clip {name!r}: malformed animation ({type(error).__name__}: {str(error)[:120]})"
            bad.append((BadClip(name, "bad_structure", words), file.fail("bad_structure", words)))
            continue
        total += sum(track.values.size for track in clip.tracks)
        if total > file.limits.animation_values:
            raise file.fail("too_large", f"animations hold over {file.limits.animation_values:,} values")
        clips.append(clip)
    if bad and not clips:
        raise bad[0][1]
    return clips, [found for found, _ in bad]


def _unused_name(name: str, used: set[str]) -> str:
    """The name, or the first of NAME.001, NAME.002, ... that no other clip has."""
    candidate, number = name, 0
    while candidate in used:
        number += 1
        candidate = f"{name}.{number:03d}"
    used.add(candidate)
    return candidate


def _read_channels(
    file: GltfFile, entry: dict[str, Any], morph_counts: dict[int, int], name: str
) -> dict[tuple[Any, ...], list[tuple[int, np.ndarray]]]:
    """The clip's channels by property, interpolation, width and accessor of the key times."""
    groups: dict[tuple[Any, ...], list[tuple[int, np.ndarray]]] = {}
    total = 0
    for channel in entry["channels"]:
        found = _read_channel(file, entry, channel, morph_counts, name)
        if found is not None:
            key, node, values = found
            groups.setdefault(key, []).append((node, values))
            total += values.size
            if total > file.limits.animation_values:
                raise file.fail("too_large", f"clip {name!r} holds over {file.limits.animation_values:,} values")
    return groups


def _read_channel(
    file: GltfFile, entry: dict[str, Any], channel: dict[str, Any], morph_counts: dict[int, int], clip: str
) -> tuple[tuple[Any, ...], int, np.ndarray] | None:
    """(group key, node, values [K, D] or [K, 3, D]) of a channel; None where it drives nothing we know."""
    target = channel["target"]
    node, path = target.get("node"), target.get("path")
    if node is None or path not in ("translation", "rotation", "scale", "weights"):
        return None
    file.item("nodes", node)
    width = morph_counts.get(node, 0) if path == "weights" else PROPERTY_WIDTH[path]
    if width == 0:
        return None
    sampler = entry["samplers"][channel["sampler"]]
    interpolation = sampler.get("interpolation", "LINEAR")
    if interpolation not in ("LINEAR", "STEP", "CUBICSPLINE"):
        raise file.fail("unsupported", f"clip {clip!r}: interpolation {interpolation!r}")
    keys = file.array(sampler["input"])
    values = file.array(sampler["output"]).astype(np.float32)
    per_key = 3 * width if interpolation == "CUBICSPLINE" else width
    if values.size != len(keys) * per_key:
        raise file.fail("bad_structure", f"clip {clip!r}: {values.size} values for {len(keys)} keys of {per_key} each")
    if not np.isfinite(values).all():
        raise file.fail("non_finite", f"clip {clip!r}: NaN or infinity in the {path} of node {node}")
    shape = (len(keys), 3, width) if interpolation == "CUBICSPLINE" else (len(keys), width)
    return (path, interpolation, width, sampler["input"]), node, values.reshape(shape)


def _make_clip(file: GltfFile, name: str, groups: dict[tuple[Any, ...], list[tuple[int, np.ndarray]]]) -> Clip:
    merged: dict[tuple[Any, ...], tuple[np.ndarray, list[tuple[int, np.ndarray]]]] = {}
    for (path, interpolation, width, accessor), members in groups.items():
        times = _key_times(file, accessor, name)
        # Exporters often write one time accessor per channel with the same content.
        key = (path, interpolation, width, times.tobytes())
        merged.setdefault(key, (times, []))[1].extend(members)
    tracks = []
    for (path, interpolation, _, _), (times, members) in merged.items():
        nodes = np.array([node for node, _ in members])
        tracks.append(Track(path, interpolation, nodes, times, np.stack([values for _, values in members])))
    start = min((float(track.times[0]) for track in tracks), default=0.0)
    end = max((float(track.times[-1]) for track in tracks), default=0.0)
    return Clip(name, start, end, tracks)


def _key_times(file: GltfFile, accessor: int, clip: str) -> np.ndarray:
    times = file.array(accessor)
    if times.shape[1] != 1 or times.dtype != np.float32:
        raise file.fail("key_times", f"clip {clip!r}: key times must be float scalars")
    seconds = times[:, 0].astype(np.float64)
    if not np.isfinite(seconds).all():
        raise file.fail("key_times", f"clip {clip!r}: NaN or infinity among the key times")
    if np.abs(seconds).max() > file.limits.clip_seconds:
        raise file.fail(
            "key_times",
            f"clip {clip!r}: key times from {seconds.min():g} to {seconds.max():g} s, "
            f"limit {file.limits.clip_seconds:g} s",
        )
    if (np.diff(seconds) < 0).any():
        raise file.fail("key_times", f"clip {clip!r}: key times go back")
    return seconds
