"""Moving surfaces out of files: an animated GLB, a folder of one mesh per instant, or ActionBench's surfaces.npy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from viewtime.errors import UserError
from viewtime.image_files import natural_order

SURFACES = "surfaces.npy"
SUFFIXES = (".glb", ".gltf")
FARTHEST = 1e6  # units: squared distances are summed in single precision


@dataclass(frozen=True)
class MovingSurface:
    """T instants of one surface.

    Attributes:
        vertices: one [N, 3] per instant (of points: the points themselves).
        triangles: one [K, 3] per instant; None where the file holds tracked points alone.
    """

    vertices: list[np.ndarray]
    triangles: list[np.ndarray] | None

    @property
    def tracked(self) -> bool:
        """Whether a vertex is the same point of the surface at every instant."""
        faces = self.triangles
        return faces is None or all(np.array_equal(faces[0], later) for later in faces[1:])

    def points(self, count: int, seed: int) -> np.ndarray:
        """Points drawn evenly over the surface, anew at every instant: [T, count, 3]; tracked points as they are."""
        if self.triangles is None:
            return np.stack(self.vertices)
        frames = zip(self.vertices, self.triangles, strict=True)
        return np.stack([_at(v, t, *_draw(v, t, count, seed + index)) for index, (v, t) in enumerate(frames)])

    def tracks(self, count: int, seed: int) -> np.ndarray:
        """Points drawn evenly over the first instant and followed: [T, count, 3]; tracked points as they are."""
        if self.triangles is None:
            return np.stack(self.vertices)
        assert self.tracked, "asked before"
        chosen = _draw(self.vertices[0], self.triangles[0], count, seed)
        return np.stack([_at(vertices, self.triangles[0], *chosen) for vertices in self.vertices])

    def in_unit_cube(self) -> MovingSurface:
        """The same with the whole motion's bounding box centred, its longest side from -1 to 1.

        Raises:
            UserError: all points are one.
        """
        low = np.min([vertices.min(axis=0) for vertices in self.vertices], axis=0)
        high = np.max([vertices.max(axis=0) for vertices in self.vertices], axis=0)
        half = float((high - low).max()) / 2
        if not half > 0:
            raise UserError("all points of a surface are at one place at all times: it has no size")
        return MovingSurface([(vertices - (low + high) / 2) / half for vertices in self.vertices], self.triangles)


def read_surface(path: Path, instants: int) -> MovingSurface:
    """A moving surface with `instants` instants.

    Args:
        path: an animated .glb or .gltf (its first clip at that many evenly spaced moments, both ends included), a
            folder of one mesh per instant in the order of their numbers, or points [T, N, 3 or 6] in a .npy file
            or in the surfaces.npy of a folder.

    Raises:
        UserError: no such file, another kind of file, too few instants, or a surface without area.
        AssetError: a mesh that cannot be read.
    """
    if path.is_dir() and (path / SURFACES).is_file():
        path = path / SURFACES
    if path.suffix == ".npy" and path.is_file():
        return _read_points(path, instants)
    if path.is_dir():
        files = sorted(meshes_in(path), key=natural_order)
        if len(files) < instants:
            raise UserError(f"{path} holds {len(files)} meshes, of {instants} instants; one GLB per instant")
        meshes = [_read_mesh(file, 1) for file in files[:instants]]
        return MovingSurface([vertices[0] for vertices, _ in meshes], [triangles for _, triangles in meshes])
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise UserError(f"{path} is no surface: give a .glb, a folder of one mesh per instant, or points in a .npy")
    vertices, triangles = _read_mesh(path, instants)
    return MovingSurface(list(vertices), [triangles] * instants)


def meshes_in(folder: Path) -> list[Path]:
    """The glTF files of a folder, in no order."""
    return [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]


def instants_in(path: Path) -> int | None:
    """How many instants a file of points has; None for meshes, which can be asked at any."""
    file = path / SURFACES if path.is_dir() else path
    return len(_load(file)) if file.suffix == ".npy" and file.is_file() else None


def _load(file: Path) -> np.ndarray:
    try:
        points = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{file} is no array of points: {error}") from error
    if not isinstance(points, np.ndarray) or points.dtype.kind not in "iuf":
        held = f"numbers of {points.dtype}" if isinstance(points, np.ndarray) else "several arrays"
        raise UserError(f"{file} holds {held}; points are one array of real numbers, as numpy.save writes it")
    if points.ndim != 3 or points.shape[-1] not in (3, 6) or not points.size:
        raise UserError(f"{file} has the shape {list(points.shape)}; points are [T, N, 3], or 6 with normals")
    return points


def _read_points(file: Path, instants: int) -> MovingSurface:
    points = _load(file)
    if len(points) != instants:
        raise UserError(f"{file} has {len(points)} instants, its partner {instants}")
    positions = np.array(points[..., :3], np.float64)
    if not np.isfinite(positions).all():
        raise UserError(f"{file} has points that are not finite")
    if np.abs(positions).max() > FARTHEST:
        raise UserError(f"{file} has a coordinate of {np.abs(positions).max():.3g}; up to {FARTHEST:g} can be compared")
    return MovingSurface(list(positions), None)


def _read_mesh(path: Path, instants: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [T, N, 3] and triangles [K, 3] of all visible parts."""
    from viewtime.render_objaverse.gltf import load_scene
    from viewtime.render_objaverse.pose import pose_scene

    scene = load_scene(path)
    clip = scene.clips[0] if scene.clips else None
    posed = pose_scene(scene, clip, clip.frame_times(instants) if clip else np.zeros(instants))
    first, triangles = 0, []
    for which in range(len(posed.parts)):
        part = scene.parts[posed.parts[which]]
        triangles.append(np.asarray(part.triangles, np.int64) + first)
        first += len(part.positions)
    return posed.positions.astype(np.float64), np.concatenate(triangles)


def _draw(vertices: np.ndarray, triangles: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles [count] by area and places in them [count, 3], both at random."""
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    if not area.sum() > 0:
        raise UserError("a mesh has no area at one instant: there is no surface to draw points of")
    random = np.random.default_rng(seed)
    chosen = random.choice(len(triangles), size=count, p=area / area.sum())
    root, along = np.sqrt(random.random(count)), random.random(count)
    return chosen, np.stack((1 - root, root * (1 - along), root * along), axis=-1)


def _at(vertices: np.ndarray, triangles: np.ndarray, chosen: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.einsum("pkc,pk->pc", vertices[triangles[chosen]], places)
