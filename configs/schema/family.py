"""Schema of a character family: assets, equipment, variants and held-out clips of a specialist's training set."""

from __future__ import annotations

from dataclasses import dataclass, field

from viewtime.errors import UserError


@dataclass(frozen=True)
class FamilyAsset:
    """One character.

    Attributes:
        file: name of the GLB inside the assets folder.
        worn: mesh names that are always drawn.
        choices: for each list, one of its mesh names (or "" for none) is drawn; the first is variant 0's.
        proportions: node names whose scale varies (with everything that hangs on them).
        limbs: node names; in recombined variants some move, with what hangs on them, as in a random training clip.
            Those nearer to the root come first.
    """

    file: str
    worn: list[str]
    choices: list[list[str]] = field(default_factory=list)
    proportions: list[str] = field(default_factory=list)
    limbs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FamilyConfig:
    """What is rendered.

    Attributes:
        assets: the characters.
        held_out_clips: clip names that are never trained on.
        left_out_clips: clip names that are not used at all (still poses).
        variants: per training clip; variant 0 is the character as it comes.
        recombined: further variants per training clip some of whose limbs move as in other training clips.
        limb_share: probability that a limb of a recombined variant does so.
        limb_turn: such a limb is also turned about a random axis by up to this many degrees.
        limb_swing: and by up to this many more, about another axis at each of `swing_keys` evenly spaced times.
        plain_looks: share of the recombined variants that look like variant 0.
        views, frames, size, elevation: of each grid; views at regular azimuths, degrees.
        looser: the camera stands up to this factor further away than the tightest fit.
        proportion_change: largest relative change of a node's scale.
        hue_turn: largest hue rotation in degrees.
        seed: of the variants.
    """

    assets: list[FamilyAsset]
    held_out_clips: list[str]
    left_out_clips: list[str] = field(default_factory=list)
    variants: int = 3
    recombined: int = 0
    limb_share: float = 1.0
    limb_turn: float = 0.0
    limb_swing: float = 0.0
    swing_keys: int = 4
    plain_looks: float = 0.0
    views: int = 9
    frames: int = 12
    size: int = 64
    elevation: float = 12.0
    looser: float = 1.12
    proportion_change: float = 0.12
    hue_turn: float = 40.0
    seed: int = 0

    def __post_init__(self) -> None:
        if both := set(self.held_out_clips) & set(self.left_out_clips):
            raise UserError(f"family: {', '.join(sorted(both))} is both held out and left out")
        if min(self.variants, self.views, self.frames, self.swing_keys) < 1:
            raise UserError("family: variants, views, frames and swing_keys must be at least 1")
        if not (0 <= self.limb_share <= 1 and 0 <= self.plain_looks <= 1):
            raise UserError("family: limb_share and plain_looks must lie between 0 and 1")
        if self.recombined and (stiff := [asset.file for asset in self.assets if not asset.limbs]):
            raise UserError(f"family: recombined variants need limbs, {', '.join(stiff)} names none")
