"""Options of `viewtime reconstruct --method scene`. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class SceneOptions:
    """Whole pictures with a background, cameras that stand anywhere, views that disagree (4Real-Video, supplement 6).

    The Gaussians' own options are those of `gaussians`; the preset `scene` has the paper's (isotropic, an MLP).

    Attributes:
        cameras: where each view stands: a folder or file in nerfstudio's form (transforms.json, one frame per view), or
            in a grid folder. Default: the grid's own; where it has none, from `tracks`, else by COLMAP (pycolmap).
        fov_y: vertical field of view in degrees, where no file tells it; cameras that look about the same way hardly
            determine it.
        tracks: .npz of a dense 3D tracker on the first frame's views, in frame coordinates (OpenCV axes): `points`
            [V, N, 3], `visible` [V, N], `colours` [N, 3]. Default: optical flow, lifted by the cameras.
        background: Gaussians for what never changes; without, only what moves is fitted, on white.
        view_offsets: Δp per view from the tracks (Eq. 11), which takes up what the views disagree on.
        canonical: agreed: points stand where the views see them on average; central: where the middle view does, as in
            the paper.
        opacity_iterations: steps in which only the opacities of the tracked points are learned; what turns faint are
            floaters, and is dropped.
        still_threshold: change of a colour channel (0 to 1) over the frames, below which a pixel counts as background.
        near: of points, in multiples of the middle depth; nearer ones are moved there.
        far: likewise, farther ones.
    """

    cameras: Path | None = None
    fov_y: float = 40.0
    tracks: Path | None = None
    background: bool = True
    view_offsets: bool = True
    canonical: Literal["agreed", "central"] = "agreed"
    opacity_iterations: int = 100
    still_threshold: float = 0.06
    near: float = 0.2
    far: float = 5.0
