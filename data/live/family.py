"""A character family rendered once into memory-mapped grids: the training set of a specialist.

Every clip of every character in a few variants of equipment, proportion and colour, seen from regular azimuths. The
files are small enough to stay in the page cache, so that a CPU spends its time on training and not on rendering.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from viewtime.cameras import Cameras, regular_orbit
from viewtime.configs.earlier import with_defaults
from viewtime.configs.schema.family import FamilyAsset, FamilyConfig
from viewtime.data.samples import generator_for
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.json_files import read_json
from viewtime.log import log, progress
from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.framing import camera_distance, normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.pose import pose_scene
from viewtime.run_folder import plain

from .recombine import quaternion_product, random_turn, recombine, turned

LARGEST_DIFFERENCE = 0.5  # mean over a grid's values, of 255; rasterisers on other machines round differently


@dataclass(frozen=True)
class FamilyItem:
    """One grid of the family: a character, a clip and a variant."""

    asset: FamilyAsset
    clip: str
    variant: int
    held_out: bool
    recombined: bool = False

    @property
    def id(self) -> str:
        """A file name's worth of identity."""
        return f"{Path(self.asset.file).stem}.{self.clip}.{self.variant}"


@dataclass(frozen=True)
class Look:
    """What a variant looks like: drawn parts, scaled nodes, hue turn in degrees, distance over the tightest fit."""

    parts: list[int]
    node_scale: dict[int, float]
    hue: float
    looser: float


def family_items(config: FamilyConfig, scenes: dict[str, Scene]) -> list[FamilyItem]:
    """All grids in a fixed order; held-out clips come as variant 0 alone.

    Raises:
        UserError: a held-out or left-out clip that no character has.
    """
    names = {clip.name for scene in scenes.values() for clip in scene.clips}
    if unknown := (set(config.held_out_clips) | set(config.left_out_clips)) - names:
        raise UserError(f"family: no character has the clip {', '.join(sorted(unknown))}")
    items = []
    for asset in config.assets:
        for clip in scenes[asset.file].clips:
            if clip.name in config.left_out_clips:
                continue
            if clip.name in config.held_out_clips:
                items.append(FamilyItem(asset, clip.name, 0, held_out=True))
                continue
            for variant in range(config.variants + config.recombined):
                recombined = variant >= config.variants
                items.append(FamilyItem(asset, clip.name, variant, held_out=False, recombined=recombined))
    return items


def look_of(item: FamilyItem, scene: Scene, config: FamilyConfig) -> Look:
    """Draw a variant's look from the seed and the item's name alone.

    Raises:
        UserError: a mesh or node name that the character does not have.
    """
    rng = generator_for(config.seed, *item.id.encode())
    plain = item.variant == 0 or (item.recombined and float(rng.uniform()) < config.plain_looks)
    meshes = {part.name: index for index, part in enumerate(scene.parts)}
    chosen = list(item.asset.worn)
    for choice in item.asset.choices:
        chosen.append(choice[0] if plain else choice[int(rng.integers(len(choice)))])
    looser = float(rng.uniform(1.0, config.looser))
    if missing := [name for name in chosen if name and name not in meshes]:
        raise UserError(f"{item.asset.file} has no mesh {missing[0]!r}; it has {', '.join(meshes)}")
    if missing := [name for name in item.asset.proportions if name not in scene.names]:
        raise UserError(f"{item.asset.file} has no node {missing[0]!r}")
    parts = [meshes[name] for name in chosen if name]
    if plain:
        return Look(parts, {}, 0.0, looser)
    node_scale: dict[int, float] = {}
    for name in item.asset.proportions:
        drawn = 1.0 + config.proportion_change * float(rng.uniform(-1, 1))
        if name.endswith(".r"):  # left and right stay alike
            drawn = node_scale[scene.names.index(f"{name.removesuffix('.r')}.l")]
        node_scale[scene.names.index(name)] = drawn
    return Look(parts, node_scale, config.hue_turn * float(rng.uniform(-1, 1)), looser)


def motion_of(item: FamilyItem, scene: Scene, config: FamilyConfig) -> Clip:
    """The item's clip; in a recombined variant some limbs follow training clips and are turned, drawn from its name.

    Raises:
        UserError: a limb that the character does not have.
    """
    clip = scene.clip(item.clip)
    assert clip is not None
    if not item.recombined:
        return clip
    if missing := [name for name in item.asset.limbs if name not in scene.names]:
        raise UserError(f"{item.asset.file} has no node {missing[0]!r}")
    rng = generator_for(config.seed, *f"{item.id}.limbs".encode())
    unseen = {*config.held_out_clips, *config.left_out_clips}
    training = [clip for clip in scene.clips if clip.name not in unseen]
    moved = [scene.names.index(name) for name in item.asset.limbs if float(rng.uniform()) < config.limb_share]
    limbs = {node: training[int(rng.integers(len(training)))] for node in moved}
    made = recombine(scene, clip, limbs)
    if not (config.limb_turn or config.limb_swing):
        return made
    return turned(scene, made, {node: limb_turns(rng, config) for node in limbs})


def limb_turns(rng: np.random.Generator, config: FamilyConfig) -> np.ndarray:
    """Unit quaternions [swing_keys, 4]: a turn that stays over the clip, and one that differs from key to key."""
    constant = random_turn(rng, config.limb_turn)
    return np.stack(
        [quaternion_product(constant, random_turn(rng, config.limb_swing)) for _ in range(config.swing_keys)]
    )


def hue_matrix(degrees: float) -> np.ndarray:
    """Rotation of RGB about the grey axis that turns hues by `degrees`: [3, 3]."""
    turn = np.radians(degrees)
    axis = np.ones(3) / np.sqrt(3.0)
    cross = np.cross(np.eye(3), axis)
    return np.cos(turn) * np.eye(3) + (1 - np.cos(turn)) * np.outer(axis, axis) - np.sin(turn) * cross


def render_item(
    item: FamilyItem, scene: Scene, config: FamilyConfig, renderer: GLRenderer
) -> tuple[np.ndarray, Cameras, float]:
    """uint8 [V, F, 4, H, W] straight alpha, its cameras, and frames per second."""
    look = look_of(item, scene, config)
    clip = motion_of(item, scene, config)
    posed = pose_scene(
        scene, clip, clip.frame_times(config.frames), parts=look.parts, node_scale=look.node_scale or None
    )
    placement = normalise(posed.positions)
    orbit = regular_orbit(config.views, config.frames, elevation=config.elevation)
    rotations = orbit.camera_to_world()[:, 0, :3, :3].numpy()
    distance = look.looser * camera_distance(placement.apply(posed.positions), rotations, fit="projected")
    cameras = regular_orbit(config.views, config.frames, elevation=config.elevation, distance=distance)
    images = renderer.draw(
        posed,
        cameras.camera_to_world().numpy(),
        cameras.fov_y,
        placement=placement,
        colour_matrix=hue_matrix(look.hue) if look.hue else None,
    )
    fps = (config.frames - 1) / max(clip.duration, 1e-3)
    return images.transpose(0, 1, 4, 2, 3), cameras, fps


def check_pictures(item: FamilyItem, scene: Scene, config: FamilyConfig, renderer: GLRenderer, folder: Path) -> None:
    """Render a grid again and compare, so that files of another version of the renderer are not taken for this one's.

    Raises:
        UserError: the folder's grid looks different.
    """
    rendered, _, _ = render_item(item, scene, config, renderer)
    stored = np.load(folder / f"{item.id}.npy")
    apart = float(np.abs(rendered.astype(np.int16) - stored).mean()) if stored.shape == rendered.shape else np.inf
    if apart > LARGEST_DIFFERENCE:
        raise UserError(
            f"{folder}: {item.id} was rendered from other files or by another version (mean difference {apart:.2f} "
            f"of 255, at most {LARGEST_DIFFERENCE}); remove the folder or name another one"
        )


def render_family(config: FamilyConfig, assets: str | Path, folder: str | Path) -> Path:
    """Render what is not there yet; the same config and assets give the same files.

    Returns:
        The folder: one `ID.npy` and `ID.json` a grid, and `family.json` once all are there.

    Raises:
        UserError: an asset is missing or damaged; the folder holds another family, or another version's pictures.
    """
    assets, folder = Path(assets), Path(folder)
    if missing := [asset.file for asset in config.assets if not (assets / asset.file).is_file()]:
        raise UserError(f"the family needs {', '.join(missing)} in {assets}; see configs/families for where it is from")
    recorded = folder / "family.json"
    complete = recorded.is_file()
    if complete and with_defaults(FamilyConfig, read_json(recorded, dict)) != plain(config):
        raise UserError(f"{folder} holds a family of another config; remove it or name another folder")
    scenes = {asset.file: load_scene(assets / asset.file) for asset in config.assets}
    items = family_items(config, scenes)
    there = {item.id: item for item in items if (folder / f"{item.id}.json").is_file()}
    with GLRenderer(config.size) as renderer:
        if there:
            first = next(iter(there.values()))
            check_pictures(first, scenes[first.asset.file], config, renderer, folder)
        if complete:
            return folder
        todo = [item for item in items if item.id not in there]
        size = len(items) * config.views * config.frames * 4 * config.size**2
        log.info(
            "%d grids are rendered first, which counts as training time; %s will hold %.2f GB, where later runs find "
            "them", len(todo), folder, size / 1e9,
        )  # fmt: skip
        for item in progress(todo, f"rendering {len(todo)} grids"):
            images, cameras, fps = render_item(item, scenes[item.asset.file], config, renderer)
            record = {"id": item.id, "held_out": item.held_out, "variant": item.variant, "clip": item.clip}
            with atomic_path(folder / f"{item.id}.npy") as path:
                np.save(path, images)
            with atomic_path(folder / f"{item.id}.json") as path:
                path.write_text(json.dumps({**record, "fps": fps, "cameras": cameras.to_json()}))
    with atomic_path(recorded) as path:
        path.write_text(json.dumps(asdict(config), indent=1))
    log.info("%d grids in %s", len(items), folder)
    return folder
