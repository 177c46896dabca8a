"""Which clips an open file has: takes of an FBX, what a Blender file plays as it was saved, and its other actions.

A take moves everything that belongs to it at once. Imported by scripts that lie beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blender_open import Opened, carriers  # beside this file

AS_SAVED = "as saved"
Motion = tuple[Any, Any, Any]  # who moves, its action or AS_SAVED (NLA strips), the action's slot


@dataclass
class Take:
    """One clip: its first and last frame, and who moves by which action."""

    name: str
    start: float
    end: float
    motions: list[Motion]

    def effect(self) -> frozenset[tuple[int, Any]]:
        """Equal for takes that show the same."""
        return frozenset((owner.as_pointer(), _key(action)) for owner, action, _ in self.motions)


def _key(action: Any) -> Any:
    return action if action == AS_SAVED else action.as_pointer()


class Player:
    """Plays one take at a time; with None, nothing moves."""

    def __init__(self, bpy: Any, opened: Opened) -> None:
        self.bpy, self.opened = bpy, opened
        self.scene = bpy.context.scene
        self.owners = carriers(bpy, self.scene)
        self._saved = {
            owner.as_pointer(): (owner.animation_data.action, owner.animation_data.action_slot)
            for owner in self.owners
            if owner.animation_data.action is not None
        }
        self.takes = self._fbx_takes() if opened.stacks else self._blend_takes()

    def play(self, take: Take | None) -> None:
        """Make the take the only thing that plays."""
        moving = {owner.as_pointer(): (action, slot) for owner, action, slot in take.motions} if take else {}
        for owner in self.owners:
            data = owner.animation_data
            action, slot = moving.get(owner.as_pointer(), (None, None))
            data.use_nla = action == AS_SAVED
            data.action = None if action in (None, AS_SAVED) else action
            if data.action is not None:
                data.action_slot = slot or data.action.slots[0]
        self.opened.rest.restore(self.bpy)

    def _fbx_takes(self) -> list[Take]:
        used: set[str] = set()
        return [Take(unused(name, used), *_range(motions), motions) for name, motions in self.opened.stacks]

    def _blend_takes(self) -> list[Take]:
        """What plays as saved, then every other action; what has one motion only, and plays it, always does."""
        tracks, strips = self._nla_motions()
        saved = [
            (owner, *self._saved[owner.as_pointer()]) for owner in self.owners if owner.as_pointer() in self._saved
        ]
        saved += [self._saved_strips(owner) for owner in self.owners if self._plays_strips(owner)]
        whole = saved[0][1].name if len(saved) == 1 and saved[0][1] != AS_SAVED else "scene"
        own = [(whole, saved), *tracks.items(), *self._loose_actions(strips)]
        always = [motion for motion in saved if self._motions_of(motion[0], own) == 1]
        used: set[str] = set()
        seen: set[Any] = set()
        takes = []
        for name, motions in own:
            there = {owner.as_pointer() for owner, _, _ in motions}
            take = Take(name, 0.0, 0.0, [*motions, *(m for m in always if m[0].as_pointer() not in there)])
            if not take.motions or take.effect() in seen:
                continue
            seen.add(take.effect())
            take.name = unused(name, used)
            take.start, take.end = _range(take.motions)
            takes.append(take)
        if not takes and any(owner.animation_data.drivers for owner in self.owners):
            takes = [Take("scene", *self.opened.frames, [])]
        return takes

    def _nla_motions(self) -> tuple[dict[str, list[Motion]], set[int]]:
        """Motions by NLA track (a track of several strips: by action), and the actions that they use.

        A strip that plays as saved, alone on its owner, is that owner's saved motion.
        """
        tracks: dict[str, list[Motion]] = {}
        used: set[int] = set()
        for owner in self.owners:
            for track in owner.animation_data.nla_tracks:
                strips = [strip for strip in track.strips if strip.action is not None]
                used |= {strip.action.as_pointer() for strip in strips}
                if self._plays_strips(owner) and len(owner.animation_data.nla_tracks) == 1 and len(strips) == 1:
                    continue
                for strip in strips:
                    name = track.name if len(strips) == 1 else strip.action.name
                    motions = tracks.setdefault(name, [])
                    if all(owner != other for other, _, _ in motions):
                        motions.append((owner, strip.action, strip.action_slot))
        return tracks, used

    def _plays_strips(self, owner: Any) -> bool:
        """Whether NLA strips move the owner as it was saved."""
        data = owner.animation_data
        playing = [track for track in data.nla_tracks if not track.mute and len(track.strips)]
        return bool(playing) and data.use_nla and owner.as_pointer() not in self._saved

    @staticmethod
    def _saved_strips(owner: Any) -> Motion:
        """Tracks that lie on top of each other show the uppermost alone; others follow or mix as they were saved."""
        tracks = [track for track in owner.animation_data.nla_tracks if not track.mute and len(track.strips)]
        spans = [(track.strips[0].frame_start, track.strips[-1].frame_end) for track in tracks]
        stacked = max(start for start, _ in spans) < min(end for _, end in spans)
        top = tracks[-1].strips
        if len(tracks) > 1 and stacked and all(len(track.strips) == 1 for track in tracks) and top[0].action:
            return owner, top[0].action, top[0].action_slot
        return owner, AS_SAVED, None

    def _loose_actions(self, used: set[int]) -> list[tuple[str, list[Motion]]]:
        """Actions that nothing plays: each with the owner that it was made for."""
        taken = used | {action.as_pointer() for action, _ in self._saved.values()}
        found = []
        for action in self.bpy.data.actions:
            if action.as_pointer() in taken:
                continue
            for slot in action.slots:
                owner = self._owner_of(action, slot)
                if owner is not None:
                    found.append((action.name, [(owner, action, slot)]))
        return found

    def _owner_of(self, action: Any, slot: Any) -> Any:
        """Whom an unused action moves: its name is the slot's, or it alone has all that the action animates."""
        paths = {curve.data_path for curve in _curves(action, slot)}
        fitting = [owner for owner in self._possible_owners(slot) if paths and all(_has(owner, path) for path in paths)]
        named = [owner for owner in fitting if owner.name == slot.name_display]
        bony = [owner for owner in fitting if any(path.startswith("pose.bones") for path in paths)]
        for choice in (named, bony or fitting):
            if len(choice) == 1:
                return choice[0]
        return None

    def _possible_owners(self, slot: Any) -> list[Any]:
        found = []
        for item in self.scene.objects:
            for owner in (item, item.data, getattr(item.data, "shape_keys", None)):
                if owner is not None and slot.target_id_type in ("UNSPECIFIED", owner.id_type) and owner not in found:
                    found.append(owner)
        for owner in found:
            if owner.animation_data is None:
                owner.animation_data_create()
            if owner not in self.owners:
                self.owners.append(owner)
        return found

    @staticmethod
    def _motions_of(owner: Any, own: list[tuple[str, list[Motion]]]) -> int:
        return len({_key(action) for _, motions in own for other, action, _ in motions if other == owner})


def _curves(action: Any, slot: Any) -> list[Any]:
    return [
        curve
        for layer in action.layers
        for strip in layer.strips
        for bag in strip.channelbags
        if bag.slot == slot
        for curve in bag.fcurves
    ]


def _has(owner: Any, path: str) -> bool:
    try:
        owner.path_resolve(path)
    except ValueError:
        return False
    return True


def _range(motions: list[Motion]) -> tuple[float, float]:
    """First and last frame of the actions and of the strips that play."""
    ends: list[float] = []
    for owner, action, _ in motions:
        if action == AS_SAVED:
            tracks = [track for track in owner.animation_data.nla_tracks if not track.mute]
            ends += [end for track in tracks for strip in track.strips for end in (strip.frame_start, strip.frame_end)]
        else:
            ends += list(action.frame_range)
    return float(min(ends)), float(max(ends))


def unused(name: str, used: set[str]) -> str:
    """The name, or the first of NAME.001, NAME.002, ... that is not used yet."""
    candidate, number = name, 0
    while candidate in used:
        number += 1
        candidate = f"{name}.{number:03d}"
    used.add(candidate)
    return candidate
