"""Grids with captions of a few words: kinds that move and have colours, rendered once into memory-mapped files.

Four-view rings from all sides, at one distance: what a caption, a camera and an instant say of a picture is nearly all
there is to say, so that a small network learns it in an hour or two of one core.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.configs.earlier import with_defaults
from viewtime.configs.load import build
from viewtime.configs.schema.captioned import CaptionedAsset, CaptionedOptions, CaptionedSet
from viewtime.data.samples import generator_for
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.json_files import read_json
from viewtime.log import log, progress
from viewtime.render_objaverse.framing import normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene
from viewtime.run_folder import plain

RING = 4
LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)
USUAL_LUMINANCE = 0.6  # of a coloured object, on average
OWN_COLOUR = 0.15  # share of its own colours that a coloured object keeps


def ring_cameras(config: CaptionedSet) -> Cameras:
    """The cameras of every item, [RING · rings, 1]: azimuths evenly around, elevations by chance."""
    rng = generator_for(config.seed, *b"rings")
    first = (np.arange(config.rings) + 0.5) / config.rings * (360 / RING)
    azimuth = (rng.permutation(first)[:, None] + np.arange(RING) * (360 / RING)).reshape(-1, 1)
    elevation = rng.uniform(config.elevation_min, config.elevation_max, config.rings).repeat(RING)[:, None]
    distance = torch.full((RING * config.rings, 1), config.distance)
    return Cameras(torch.from_numpy(elevation).float(), torch.from_numpy(azimuth).float(), distance)


def render_item(
    asset: CaptionedAsset, clip_name: str, path: Path, config: CaptionedSet, renderer: GLRenderer
) -> np.ndarray:
    """uint8 [V, instants, 4, S, S], straight alpha: one clip over one turn of its motion.

    Raises:
        UserError: a mesh or clip that the asset does not have.
    """
    scene = load_scene(path)
    clip = scene.clip(clip_name)
    assert clip is not None
    meshes = {part.name: index for index, part in enumerate(scene.parts)}
    if missing := set(asset.worn) - set(meshes):
        raise UserError(f"{path} has no mesh {min(missing)!r}; it has {', '.join(meshes)}")
    times = clip.start + clip.duration * np.arange(config.instants) / config.instants
    posed = pose_scene(scene, clip, times, parts=[meshes[name] for name in asset.worn] or None)
    cameras = ring_cameras(config)
    matrices = cameras.camera_to_world()[:, :1].expand(-1, config.instants, 4, 4).numpy()
    images = renderer.draw(posed, matrices, cameras.fov_y, placement=normalise(posed.positions))
    return images.transpose(0, 1, 4, 2, 3)


def _drawn(config: dict[str, Any]) -> dict[str, Any]:
    """What of a set's config decides the pictures in its folder."""
    return {key: value for key, value in config.items() if key not in ("shapes", "motion_dropped", "colours")}


def render_captioned(config: CaptionedSet, assets: str | Path, folder: str | Path) -> Path:
    """Render what is not there yet: KIND.MOTION.npy, and words.json once all are there.

    Raises:
        UserError: an asset is missing, or the folder holds another set's pictures.
    """
    assets, folder = Path(assets), Path(folder)
    if missing := [a.file for a in config.assets.values() if not (assets / a.file).is_file()]:
        raise UserError(f"captioned grids need {', '.join(missing)} in {assets}")
    drawn = _drawn(plain(config))
    record = folder / "words.json"
    if record.is_file():
        if _drawn(with_defaults(CaptionedSet, read_json(record, dict))) != drawn:
            raise UserError(f"{folder} holds captioned grids of another config; remove it or name another folder")
        return folder
    items = [(kind, word, clip) for kind, a in config.assets.items() for word, clip in a.motions.items()]
    with GLRenderer(config.size) as renderer:
        for kind, word, clip in progress(items, f"rendering {len(items)} motions"):
            asset = config.assets[kind]
            images = render_item(asset, clip, assets / asset.file, config, renderer)
            with atomic_path(folder / f"{kind}.{word}.npy") as path:
                np.save(path, images)
    with atomic_path(record) as path:
        path.write_text(json.dumps(drawn, indent=1))
    log.info("%d motions in %s", len(items), folder)
    return folder


def coloured(pixels: np.ndarray, colour: list[float], usual: float) -> np.ndarray:
    """Straight RGB [..., 3, H, W] in [0, 1] in shades of a colour; `usual`: the object's mean luminance."""
    shade = np.einsum("...chw,c->...hw", pixels, LUMINANCE)[..., None, :, :] * (USUAL_LUMINANCE / max(usual, 0.05))
    tint = np.asarray(colour, np.float32)[:, None, None]
    return np.clip((1 - OWN_COLOUR) * shade * tint + OWN_COLOUR * pixels, 0, 1)


class CaptionedGrids:
    """Endless batches (`train.registry.BatchStream`): all grids of a batch have one shape, which is drawn.

    Args:
        folder: made by `render_captioned`.
        pictures: of a batch: it has pictures / (V · F) grids, at least one.
        words: the model's entries, in its order, see `model.mini.words`.
    """

    def __init__(
        self, config: CaptionedSet, folder: Path, words: list[str], pictures: int, seed: int, rank: int, world: int
    ) -> None:
        self.config, self.pictures, self.seed, self.rank, self.world = config, pictures, seed, rank, world
        self.items = [(kind, word) for kind, a in config.assets.items() for word in a.motions]
        self.grids = [np.load(folder / f"{kind}.{word}.npy", mmap_mode="r") for kind, word in self.items]
        self.usual = [_mean_luminance(grid[:8]) for grid in self.grids]
        self.cameras, self.position = ring_cameras(config), 0
        forms = {form: index for index, entry in enumerate(words) for form in entry.split()}
        said = {*config.assets, *config.colours, *(word for _, word in self.items)}
        if unknown := said - set(forms):
            raise UserError(f"data.options.words lacks {', '.join(sorted(unknown))}")
        self.places, self.width = forms, len(words)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            rng = generator_for(self.seed, self.position * self.world + self.rank)
            self.position += 1
            yield self.batch(rng)

    def batch(self, rng: np.random.Generator) -> dict[str, Any]:
        """x0 [B, V, F, 4, S, S] in [-1, 1], RGB on white; cond: words, elevation, azimuth, instant."""
        views, frames = self.config.shapes[int(rng.integers(len(self.config.shapes)))]
        grids = [self.draw(rng, views, frames) for _ in range(max(1, self.pictures // (views * frames)))]
        cond = {name: torch.stack([grid[name] for grid in grids]) for name in grids[0] if name != "x0"}
        return {"x0": torch.stack([grid["x0"] for grid in grids]), "cond": cond}

    def draw(self, rng: np.random.Generator, views: int, frames: int) -> dict[str, Tensor]:
        """One grid with its conditions."""
        item, o = int(rng.integers(len(self.items))), self.config
        ring = int(rng.integers(o.rings)) * RING
        rows = ring + (np.arange(RING) if views == RING else rng.integers(RING, size=1))
        start = int(rng.integers(o.instants // frames))
        columns = start + np.arange(frames) * (o.instants // frames)
        pixels = np.asarray(self.grids[item][rows][:, columns], np.float32) / 255
        kind, motion = self.items[item]
        said = [kind] if rng.random() < o.motion_dropped else [kind, motion]
        colour = ["", *o.colours][int(rng.integers(len(o.colours) + 1))]
        rgb, alpha = pixels[:, :, :3], pixels[:, :, 3:]
        if colour:
            rgb = coloured(rgb, o.colours[colour], self.usual[item])
            said.append(colour)
        words = torch.zeros(self.width)
        words[[self.places[word] for word in said]] = 1
        x0 = np.concatenate([rgb * alpha + 1 - alpha, alpha], axis=2) * 2 - 1
        cameras = self.cameras[rows.tolist()]
        shape = (views, frames)
        return {
            "x0": torch.from_numpy(x0).float(),
            "words": words,
            "elevation": cameras.elevation.expand(shape),
            "azimuth": torch.remainder(cameras.azimuth, 360).expand(shape),
            "instant": torch.from_numpy(columns / o.instants).float().expand(shape),
        }

    def state_dict(self) -> dict[str, Any]:
        """Batches handed out."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind that many batches."""
        self.position = int(state["position"])


def captioned_stream(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> CaptionedGrids:
    """Stream "captioned", see `viewtime.configs.schema.words.CaptionedOptions`; `batch_size` counts pictures."""
    o = build(CaptionedOptions, options, "data.options")
    folder = render_captioned(o.grids, o.assets, o.folder)
    return CaptionedGrids(o.grids, folder, o.words, batch_size, seed, rank, world)


def _mean_luminance(pixels: np.ndarray) -> float:
    """Of what is opaque in uint8 [..., 4, S, S]."""
    values = np.asarray(pixels, np.float32) / 255
    alpha = values[..., 3, :, :]
    return float((np.einsum("...chw,c->...hw", values[..., :3, :, :], LUMINANCE) * alpha).sum() / alpha.sum())
