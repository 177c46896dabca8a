"""Where an exported mesh stands, how large it is and how many frames a second it has."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.interpolate import PchipInterpolator

from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.errors import UserError
from viewtime.recon.surface.mesh import MovingMesh


def placed(mesh: MovingMesh, options: MeshOptions) -> MovingMesh:
    """The mesh in the place, at the size and at the frame rate that the options name.

    Raises:
        UserError: a height or a frame rate that is not positive.
    """
    for name, value in (("height", options.height), ("fps", options.fps)):
        if value is not None and not 0 < value < 1e6:
            raise UserError(f"--mesh.{name} {value:g} must be positive; leave it out for the grid's own")
    positions = mesh.positions
    low, high = positions[0].min(axis=0), positions[0].max(axis=0)
    if options.origin == "feet":
        middle = 0.5 * (low + high)
        positions = positions - np.array([middle[0], middle[1], positions[..., 2].min()], np.float32)
    if options.height is not None:
        positions = positions * np.float32(options.height / max(float(high[2] - low[2]), 1e-9))
    mesh = mesh.with_positions(positions)
    return mesh if options.fps is None else resampled(mesh, options.fps)


def resampled(mesh: MovingMesh, fps: float) -> MovingMesh:
    """Frames at another rate over the same seconds; cubic between the old ones, and never beyond them (PCHIP)."""
    old = np.arange(len(mesh.positions)) / mesh.fps
    if len(old) < 2:
        return dataclasses.replace(mesh, fps=fps)
    new = np.arange(int(np.floor(old[-1] * fps + 1e-6)) + 1) / fps
    positions = PchipInterpolator(old, mesh.positions, axis=0)(np.minimum(new, old[-1]))
    return dataclasses.replace(mesh.with_positions(positions), fps=fps)
