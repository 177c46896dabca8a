"""Everything that is learnt from an asset's file, filter after filter; runs in a guarded process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from viewtime.data.curation.probe import AssetFacts, ClipFacts, probe_asset
from viewtime.data.curation.settings import Limits
from viewtime.errors import UserError
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.gltf_file import AssetError

MEGABYTE = 1_000_000
_engines: dict[int, Any] = {}


class EngineError(UserError):
    """The GL engine cannot start: the run must stop, no asset is to blame."""

    reason = "engine"


@dataclass(frozen=True)
class ClipVerdict:
    """One clip: its facts, its motion in pixels (None where an earlier filter stopped it) and the decision."""

    facts: ClipFacts
    pixel_motion: float | None
    reason: str


@dataclass(frozen=True)
class Examination:
    """An asset's facts and verdict. stage "" means that it may be kept."""

    facts: AssetFacts | None
    clips: list[ClipVerdict]
    stage: str
    reason: str
    detail: str


def examine(path: str, limits: Limits) -> Examination:
    """Apply the filters that need the file, in their order: readable, frames, motion, size.

    A file above the size limit is not opened at all. A file that the reader refuses for its counts fails by size.

    Raises:
        EngineError: OpenGL cannot start.
    """
    size = os.path.getsize(path)
    if size > limits.max_mb * MEGABYTE:
        detail = f"{size / MEGABYTE:.1f} MB; limit {limits.max_mb:g} MB"
        return Examination(None, [], "size", "file_too_large", detail)
    try:
        facts = probe_asset(path, int(limits.max_mb * MEGABYTE), limits.max_clips)
    except AssetError as error:
        stage = "size" if error.reason == "too_large" else "readable"
        return Examination(None, [], stage, error.reason, str(error))
    clips = [ClipVerdict(clip, None, _first_reason(clip, limits)) for clip in facts.clips]
    if any(clip.reason == "" for clip in clips):
        clips = _with_pixel_motion(path, clips, limits)
    stage, reason, detail = _verdict(facts, clips, limits)
    return Examination(facts, clips, stage, reason, detail)


def _first_reason(clip: ClipFacts, limits: Limits) -> str:
    if clip.error:
        return "unposed"
    if clip.frames < limits.min_frames:
        return "few_frames"
    return "little_motion" if clip.displacement < limits.min_displacement else ""


def _with_pixel_motion(path: str, clips: list[ClipVerdict], limits: Limits) -> list[ClipVerdict]:
    """Render only the clips that passed so far."""
    if limits.min_pixel_motion <= 0:
        return clips
    from viewtime.data.curation.pixel_motion import pixel_motion

    scene, engine, measured = load_scene(path), _engine(), []
    by_name = {clip.name: clip for clip in scene.clips}
    for clip in clips:
        if clip.reason:
            measured.append(clip)
            continue
        value = round(pixel_motion(engine, scene, by_name[clip.facts.name]), 6)
        reason = "little_motion_in_pixels" if value < limits.min_pixel_motion else ""
        measured.append(ClipVerdict(clip.facts, value, reason))
    return measured


def _engine() -> Any:
    from viewtime.data.curation.pixel_motion import SIZE
    from viewtime.render_objaverse.gl import GLRenderer

    if os.getpid() not in _engines:
        try:
            _engines[os.getpid()] = GLRenderer(SIZE)
        except UserError as error:
            raise EngineError(f"{error}; or switch the measure off with --limits.min-pixel-motion 0") from error
    return _engines[os.getpid()]


def _verdict(facts: AssetFacts, clips: list[ClipVerdict], limits: Limits) -> tuple[str, str, str]:
    """(stage, reason, detail) of the first filter that no clip passes; stage "" to keep."""
    if not clips:
        return "frames", "no_animation", "it has no animation clip"
    posed = [clip for clip in clips if clip.reason != "unposed"]
    if not posed:
        return "readable", "unposed", clips[0].facts.error
    if all(clip.reason == "few_frames" for clip in posed):
        most = max(clip.facts.frames for clip in posed)
        return "frames", "few_frames", f"{most} animated frames; at least {limits.min_frames}"
    moved = max(clip.facts.displacement for clip in posed if clip.reason != "few_frames")
    if moved < limits.min_displacement:
        detail = f"vertices move {moved:.2%} of the diagonal; at least {limits.min_displacement:.2%}"
        return "motion", "little_motion", detail
    if not any(clip.reason == "" for clip in clips):
        seen = max(clip.pixel_motion or 0.0 for clip in clips)
        detail = f"key renders differ by at most {seen:.4f}; at least {limits.min_pixel_motion:g}"
        return "motion", "little_motion_in_pixels", detail
    for count, limit, name in (
        (facts.triangles, limits.max_triangles, "triangles"),
        (facts.vertices, limits.max_vertices, "vertices"),
    ):
        if count > limit:
            return "size", f"too_many_{name}", f"{count:,} {name}; limit {limit:,}"
    return "", "", ""
