"""The filters in their order, for one candidate after another; duplicates last, against all that were kept."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from viewtime.configs.schema.curate import CurationLimits
from viewtime.data.curation.candidates import Candidate
from viewtime.data.curation.convert import NEEDS_CONVERSION, convert_to_glb
from viewtime.data.curation.examine import Examination
from viewtime.data.curation.guard import GuardedError, GuardedWorker
from viewtime.data.curation.heldout import heldout_set_of
from viewtime.data.curation.licences import family, is_allowed
from viewtime.data.curation.settings import Limits
from viewtime.errors import UserError

CONVERSION_PATIENCE = 10  # times the reading timeout: Blender starts slowly and imports everything


def reading_limits(limits: CurationLimits) -> Limits:
    """The part of the limits that the guarded process applies."""
    return Limits(**{name: getattr(limits, name) for name in Limits.__dataclass_fields__})


def decide_alone(candidate: Candidate, limits: CurationLimits, output: Path, worker: GuardedWorker) -> dict[str, Any]:
    """The manifest row of a candidate, before duplicates are looked for.

    Keys: id, source, licence, licence_family, author, caption, path (relative to the manifest), bytes, sha256,
    vertices, triangles, content, clips, decision ("keep", "reject", "failed"), stage, reason, detail.

    Raises:
        UserError: OpenGL cannot start; every other trouble is in the row.
    """
    row: dict[str, Any] = {
        "id": candidate.id,
        "source": candidate.source,
        "licence": candidate.licence,
        "licence_family": family(candidate.licence),
        "author": candidate.author,
        "caption": candidate.caption,
    }
    if refusal := _before_the_file(candidate, limits):
        return row | _verdict("reject", *refusal)
    try:
        path = candidate.fetch()
    except UserError as error:
        return row | _verdict("failed", "fetch", "not_available", str(error))
    row["path"] = os.path.relpath(path, output)
    try:
        if path.suffix.lower() in NEEDS_CONVERSION:
            path = convert_to_glb(
                path, output / "converted", candidate.id, CONVERSION_PATIENCE * limits.timeout_s, limits.memory_gb
            )
            row |= {"converted_from": row["path"], "path": os.path.relpath(path, output)}
        found: Examination = worker.call(str(path), reading_limits(limits))
    except GuardedError as error:
        if error.reason == "engine":
            raise UserError(str(error)) from error
        return row | _verdict("reject", "readable", error.reason, str(error))
    row |= _facts(found)
    return row | _verdict("reject" if found.stage else "keep", found.stage, found.reason, found.detail)


def _before_the_file(candidate: Candidate, limits: CurationLimits) -> tuple[str, str, str] | None:
    """(stage, reason, detail) of what can be told without opening the file."""
    if test_set := heldout_set_of(candidate.id):
        return "heldout", test_set, f"it belongs to the published test set {test_set}: never train on it"
    if not is_allowed(candidate.licence, limits.licences):
        named = candidate.licence or "unknown"
        reason = "not_allowed" if family(candidate.licence) else "unknown_licence"
        return "licence", reason, f"licence {named}; allowed: {', '.join(limits.licences)}"
    if candidate.animations == 0:
        return "frames", "no_animation", "its annotation counts no animation"
    return None


def _verdict(decision: str, stage: str, reason: str, detail: str) -> dict[str, str]:
    return {"decision": decision, "stage": stage, "reason": reason, "detail": detail}


def _facts(found: Examination) -> dict[str, Any]:
    facts = asdict(found.facts) if found.facts else {}
    facts.pop("clips", None)
    clips = [
        {
            "name": clip.facts.name,
            "frames": clip.facts.frames,
            "duration_s": round(clip.facts.duration_s, 4),
            "displacement": round(clip.facts.displacement, 6),
            "pixel_motion": clip.pixel_motion,
            "content": clip.facts.content,
            "decision": "reject" if clip.reason else "keep",
            "reason": clip.reason,
            "error": clip.facts.error,
        }
        for clip in found.clips
    ]
    return facts | {"clips": clips}


class Duplicates:
    """What was kept so far, by content; rows must come in the manifest's order."""

    def __init__(self) -> None:
        self.assets: dict[str, str] = {}

    def apply(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with a repeated asset, or repeated clips of one asset, rejected as duplicates."""
        if row["decision"] != "keep":
            return row
        seen: dict[str, str] = {}
        clips = [self._clip(clip, seen) for clip in row["clips"]]
        row = row | {"clips": clips}
        first = self.assets.get(row["sha256"]) or self.assets.get(row["content"])
        if first is not None and first != row["id"]:
            return row | _verdict("reject", "duplicate", "same_content", f"same geometry, look and motion as {first}")
        self.assets[row["sha256"]] = self.assets[row["content"]] = row["id"]
        return row

    @staticmethod
    def _clip(clip: dict[str, Any], seen: dict[str, str]) -> dict[str, Any]:
        if clip["decision"] != "keep":
            return clip
        first = seen.setdefault(clip["content"], clip["name"])
        return clip if first == clip["name"] else clip | {"decision": "reject", "reason": f"duplicate of {first}"}
