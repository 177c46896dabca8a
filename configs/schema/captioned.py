"""Schema of captioned grids: which asset and clip stand for which words, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from viewtime.errors import UserError


@dataclass(frozen=True)
class CaptionedAsset:
    """One kind.

    Attributes:
        file: name of the GLB inside the assets folder.
        motions: word -> clip name.
        worn: mesh names that are drawn; empty: all.
    """

    file: str
    motions: dict[str, str]
    worn: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CaptionedSet:
    """What is rendered, and what a batch is.

    Attributes:
        assets: kind -> its asset.
        colours: word -> sRGB in [0, 1]; without a colour word an object has its own colours.
        rings: of four views each, from every side.
        elevation_min: the least of a ring, degrees.
        elevation_max: the greatest.
        distance: of all cameras, world units.
        instants: of a clip.
        size: pixels.
        seed: of the cameras.
        shapes: [views, frames] of a batch's grids, drawn evenly; views 1 or 4.
        motion_dropped: share of captions without the motion.
    """

    assets: dict[str, CaptionedAsset]
    colours: dict[str, list[float]]
    rings: int = 24
    elevation_min: float = 0.0
    elevation_max: float = 35.0
    distance: float = 1.8
    instants: int = 16
    size: int = 32
    seed: int = 0
    shapes: list[list[int]] = field(default_factory=lambda: [[1, 1], [4, 1], [1, 8], [4, 4]])
    motion_dropped: float = 0.1

    def __post_init__(self) -> None:
        for views, frames in self.shapes:
            if views not in (1, 4) or self.instants % frames:
                raise UserError(
                    f"captioned grids: a shape of {views} × {frames}; views are 1 or 4, frames divide {self.instants}"
                )


@dataclass(frozen=True)
class CaptionedOptions:
    """Options of the stream "captioned".

    Attributes:
        assets: folder of the GLB files.
        folder: where the rendered grids are kept.
        words: the model's words, in its order.
        grids: what is shown.
    """

    assets: str
    folder: str
    words: list[str]
    grids: CaptionedSet
