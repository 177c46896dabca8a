"""What a seed draws stays: creatures, cameras, changes to assets and pictures. Resumed runs rest on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_samples import coded_sample

from tests.pins import assert_pinned
from viewtime.configs.schema.captioned import CaptionedAsset, CaptionedSet
from viewtime.configs.schema.data import OnTheFly
from viewtime.configs.schema.family import FamilyAsset, FamilyConfig
from viewtime.data.augment import Augmentation, colour_matrix, draw_background
from viewtime.data.creatures.anatomy import draw_creature
from viewtime.data.creatures.scene import creature_scene, draw_palette
from viewtime.data.creatures.shapes import triangles
from viewtime.data.live.captioned import CaptionedGrids, ring_cameras
from viewtime.data.live.family import FamilyItem, limb_turns, look_of
from viewtime.data.live.recombine import random_turn
from viewtime.data.live.scene_renderer import draw_orbit, draw_times
from viewtime.data.live.scene_variation import (
    draw_light,
    draw_part_colours,
    draw_parts,
    draw_pose,
    draw_proportions,
    draw_stretch,
)
from viewtime.data.pseudo4d import AffineMove, cut_frame, draw_move, view_amounts, warp_views
from viewtime.data.samples import generator_for
from viewtime.data.views import draw_frames, draw_views, known_cells
from viewtime.render_objaverse.animation import Clip


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in range(0, 120, 20)], ids=lambda s: f"{s[0]}")
def test_creatures(seeds: range) -> None:
    numbers = []
    for seed in seeds:
        creature = draw_creature(generator_for(seed))
        for bone in creature.bones:
            swing = bone.swing
            numbers.append([bone.parent, *bone.head, *swing.axis, swing.amplitude, swing.phase, swing.cycles])
        for bone, shape in creature.solids:
            under = -1 if shape.underside is None else shape.underside
            numbers.append([bone, *shape.radii, *shape.centre, *shape.axes.ravel()])
            numbers.append([*shape.squareness, shape.taper, shape.colour, under])
    assert_pinned(f"creatures from {seeds[0]}", np.concatenate(numbers), 1e-6)


def test_scenes_of_creatures() -> None:
    assert_pinned("triangles", triangles())
    for seed in (4, 11):
        scene = creature_scene(generator_for(seed))
        part, clip = scene.parts[0], scene.clips[0]
        assert_pinned(f"positions {seed}", part.positions)
        assert_pinned(f"normals {seed}", part.normals)
        assert_pinned(f"colours {seed}", part.colours)
        assert_pinned(f"motion {seed}", np.concatenate([track.values.ravel() for track in clip.tracks]))
        assert_pinned(f"times {seed}", [clip.start, clip.end, *clip.tracks[0].times[:9]])
    assert_pinned("palette", draw_palette(generator_for(2)))


def test_changes_to_a_scene() -> None:
    scene = creature_scene(generator_for(5))
    light = draw_light(generator_for(1))
    assert_pinned("light", [*light.direction, light.intensity, *light.ambient, *light.ground])
    assert_pinned("part colours", list(draw_part_colours(generator_for(1), scene).values()))
    assert_pinned("proportions", list(draw_proportions(generator_for(1), scene).values()))
    assert_pinned("stretch", [draw_stretch(generator_for(seed)) for seed in range(4)])
    posed = draw_pose(generator_for(3), scene, scene.clips[0])
    assert_pinned("pose", np.concatenate([track.values.ravel() for track in posed.tracks]))
    assert_pinned("turn", random_turn(generator_for(1), 40.0))


def test_looks_of_a_family() -> None:
    asset = FamilyAsset(
        "figure.glb",
        worn=["body"],
        limbs=["leg"],
        choices=[["sword", "axe", ""]],
        proportions=["arm.l", "arm.r", "leg"],
    )
    config = FamilyConfig([asset], [], variants=3, proportion_change=0.3, hue_turn=40.0, looser=1.5, recombined=2)
    scene = SimpleNamespace(
        names=["root", "leg", "arm.l", "arm.r"], parts=[SimpleNamespace(name=name) for name in ("axe", "body", "sword")]
    )
    items = [FamilyItem(asset, "walk", variant, held_out=False, recombined=variant > 2) for variant in range(6)]
    for item in items:
        look = look_of(item, scene, config)  # type: ignore[arg-type]
        assert look.node_scale.get(2) == look.node_scale.get(3), "left and right alike"
        scales = [look.node_scale.get(node, 1.0) for node in (1, 2)]
        assert_pinned(f"look {item.variant}", [*look.parts, 0.0, *scales, look.hue, look.looser])
    turns = limb_turns(generator_for(1), FamilyConfig([asset], [], limb_turn=30.0, limb_swing=20.0, swing_keys=3))
    assert_pinned("limbs", turns)


def test_captioned_batches(tmp_path: Path) -> None:
    motions = {"ball": CaptionedAsset("ball.glb", {"rises": "up"}), "cat": CaptionedAsset("cat.glb", {"walks": "go"})}
    config = CaptionedSet(motions, {"red": [1.0, 0.1, 0.1]}, rings=3, instants=6, size=16, shapes=[[1, 3], [4, 2]])
    values = generator_for(1)
    for name in ("ball.rises", "cat.walks"):
        np.save(tmp_path / f"{name}.npy", values.integers(0, 256, (12, 6, 4, 16, 16), np.uint8))
    words = ["ball", "cat kitten", "red", "rises", "walks"]
    for rank in (0, 1):
        stream = CaptionedGrids(config, tmp_path, words, 16, seed=3, rank=rank, world=2)
        for number, batch in zip(range(3), stream):
            assert_pinned(f"captioned x0 {rank} {number}", batch["x0"], 1e-4)
            for name, value in batch["cond"].items():
                assert_pinned(f"captioned {name} {rank} {number}", value, 1e-4)


def test_of_things_in_one_slot_one_is_drawn() -> None:
    """Nodes: root, a slot with sword and axe, a slot with a shield, a hand with a ring; a skinned body."""
    part = lambda node, skin=None: SimpleNamespace(node=node, skin=skin)  # noqa: E731
    scene = SimpleNamespace(
        names=["root", "HandSlot.r", "sword", "axe", "handslot.l", "shield", "hand", "ring", "gem"],
        parents=np.array([-1, 0, 1, 1, 0, 4, 0, 6, 6]),
        parts=[part(0, 0), part(2), part(2), part(3), part(5), part(7), part(8), part(3, skin=0), part(0)],
    )
    drawn = {tuple(draw_parts(generator_for(seed), scene)) for seed in range(20)}  # type: ignore[arg-type]
    # A node's parts come together; what is skinned to the axe's node goes with it.
    assert drawn == {(0, 1, 2, 4, 5, 6, 8), (0, 3, 4, 5, 6, 7, 8)}


def test_windows_of_time() -> None:
    clip = Clip("walk", 2.0, 5.0, [])
    starts = set()
    for seed in range(200):
        times, fps = draw_times(generator_for(seed), clip, 4, 3, 8.0)
        stride = round(8 / fps)
        assert stride in (1, 2, 3)
        np.testing.assert_allclose(np.diff(times), stride / 8)
        assert 2 <= times[0] <= times[-1] <= 5
        starts.add(round(float(times[0]), 3))
    assert min(starts) < 2.2
    assert max(starts) > 4.4
    times, fps = draw_times(generator_for(0), Clip("short", 1.0, 1.3, []), 4, 1, 2.0)
    np.testing.assert_allclose(times, [1.0, 1.1, 1.2, 1.3])
    assert fps == pytest.approx(10.0)
    assert draw_times(generator_for(0), clip, 1, 1, 8.0)[1] == 8.0


def test_orbits() -> None:
    for seed, options in enumerate(
        [OnTheFly(), OnTheFly(orbit="dynamic"), OnTheFly(azimuth="random"), OnTheFly(fov_min=20.0, fov_max=60.0)]
    ):
        cameras = draw_orbit(generator_for(seed), 5, 3, options)
        assert_pinned(f"orbit {seed}", torch.stack([cameras.azimuth, cameras.elevation, cameras.distance]), 1e-4)
        assert_pinned(f"field of view {seed}", [cameras.fov_y])
    rings = ring_cameras(CaptionedSet({"ball": CaptionedAsset("ball.glb", {"rises": "up"})}, {}, rings=3))
    assert rings.azimuth.shape == (12, 1)
    # Three rings of four cameras, 90 degrees apart within a ring: all twelve multiples of 30, less 15.
    np.testing.assert_allclose(np.sort(rings.azimuth.numpy()[:, 0] % 360), 15 + 30 * np.arange(12), atol=1e-3)
    assert_pinned("rings", torch.cat([rings.azimuth, rings.elevation, rings.distance]), 1e-4)


def test_views_frames_and_known_cells() -> None:
    assert_pinned("views", [draw_views(generator_for(seed), 9, 5).tolist() for seed in range(5)])
    assert_pinned("frames", [draw_frames(generator_for(seed), 21, 5, 4).tolist() for seed in range(5)])
    weights = {"view": 1.0, "view_and_frame": 2.0, "view_and_ends": 1.0, "random": 1.0}
    assert_pinned("known", [known_cells(generator_for(seed), 4, 3, weights).tolist() for seed in range(12)])


def test_changes_of_colour() -> None:
    for seed in range(3):
        matrix, offset = colour_matrix(generator_for(seed), 0.7)
        assert_pinned(f"colour matrix {seed}", matrix)
        assert_pinned(f"colour offset {seed}", offset)
    assert_pinned("backgrounds", torch.stack([draw_background(generator_for(seed), 0.5) for seed in range(12)]))
    changed = [Augmentation(colour=0.5)(generator_for(seed), coded_sample()) for seed in range(8)]
    pixels = [[*s.frames[2, 1, :, 16, 10], s.cameras.azimuth[1, 1]] for s in changed if s.frames is not None]
    assert_pinned("augmented", pixels)


def test_moves_of_films() -> None:
    for seed in range(3):
        move = draw_move(generator_for(seed))
        assert_pinned(f"move {seed}", [*move.shift, move.log_zoom, move.turn, move.shear])
        assert_pinned(f"amounts {seed}", view_amounts(generator_for(seed), 5))
    film = torch.randint(0, 256, (2, 3, 20, 37), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cut = [cut_frame(generator_for(seed), film, size) for seed, size in enumerate([(16, 24), (20, 21), (40, 40)])]
    assert [tuple(c.shape[2:]) for c in cut] == [(16, 24), (20, 21), (40, 40)]
    assert_pinned("cut", np.concatenate([c.numpy().ravel() for c in cut]), 1e-3)


def test_a_move_shows_where_each_pixel_comes_from() -> None:
    """In a picture twice as wide as high: a zoom, a shift by half a picture, a quarter turn and a shear."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(32.0), indexing="ij")
    film = torch.stack([8 * x, 16 * y, 0 * x])[None].to(torch.uint8)

    def seen(row: int, column: int, **move: object) -> list[int]:
        """The source's (column, row) that is shown there, of the full move."""
        plain = {"shift": (0.0, 0.0), "log_zoom": 0.0, "turn": 0.0, "shear": 0.0, **move}
        pixel = warp_views(film, AffineMove(**plain), torch.tensor([0.0, 1.0]))[1, 0, :, row, column]  # type: ignore[arg-type]
        return [round(float(pixel[0]) / 8), round(float(pixel[1]) / 16)]

    assert torch.equal(warp_views(film, AffineMove((0.3, 0.2), 0.3, 0.4, 0.1), torch.zeros(1))[0], film)
    assert seen(4, 6, shift=(0.5, 0.0)) == [14, 4]  # half of 16, the half width
    assert seen(4, 6, shift=(0.0, 0.25)) == [6, 6]
    assert seen(0, 0, log_zoom=np.log(2.0)) == [8, 4]
    # A quarter turn about the centre (15.5, 7.5): right of it by 4 comes from below it by 4.
    assert seen(8, 20, turn=np.pi / 2) == [15, 12]
    assert seen(0, 16, shear=0.5) == [12, 0]  # 7.5 rows above the middle
