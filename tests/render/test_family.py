"""Character families: recombined motions against the clips they come from, what is held out, kills and resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_gltf import Builder, octahedron

from viewtime.configs.schema.family import FamilyAsset, FamilyConfig
from viewtime.data.live import family
from viewtime.data.live.family import FamilyItem, family_items, limb_turns, look_of, motion_of, render_family
from viewtime.data.live.recombine import random_turn, recombine, turned
from viewtime.errors import UserError
from viewtime.render_objaverse.animation import Clip, Track
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.pose import world_matrices

BODY, ARM, HAND, LEG = range(4)
CONFIG = FamilyConfig(
    [FamilyAsset("figure.glb", worn=["octahedron"], limbs=["arm", "leg"])],
    held_out_clips=["unseen"],
    left_out_clips=["pose"],
    variants=1,
    recombined=2,
    views=3,
    frames=2,
    size=16,
)


def track(node: int, times: list[float], values: list[float], kind: str = "LINEAR") -> Track:
    """Translation along x alone; for CUBICSPLINE values are (in, value, out) in a row."""
    x = np.array(values, np.float32).reshape(1, len(times), -1, 1)
    moved = np.concatenate([x, np.zeros_like(x), np.zeros_like(x)], axis=-1)
    return Track(
        "translation", kind, np.array([node]), np.array(times), moved if kind == "CUBICSPLINE" else moved[:, :, 0]
    )


def where(clip: Clip, node: int, share: float) -> float:
    """x of a node at this share of the clip; NaN where the clip does not move it."""
    time = np.array([clip.start + share * clip.duration])
    return next(
        (float(t.sample(time)[list(t.nodes).index(node), 0, 0]) for t in clip.tracks if node in t.nodes), np.nan
    )


def figure() -> Builder:
    """A body that carries an arm with a hand, and a leg; four clips of one channel each."""
    builder = octahedron(radius=0.4)
    builder.document["nodes"][0]["children"] = [ARM, LEG]
    builder.document["nodes"] += [{"name": "arm", "children": [HAND]}, {"name": "hand"}, {"name": "leg"}]
    for number, name in enumerate(["walk", "wave", "unseen", "pose"]):
        builder.animate(name, BODY, "translation", [0, 1 + number], np.array([[0, 0, 0], [0.1 * number + 0.1, 0, 0]]))
    return builder


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return load_scene(figure().write(tmp_path / "figure.glb"))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_limb_follows_its_own_clip_at_the_speed_of_the_base(scene: Scene, share: float) -> None:
    base = Clip("base", 1.0, 3.0, [track(node, [1, 3], [node, node + 1]) for node in (BODY, ARM, HAND, LEG)])
    donor = Clip("donor", 0.0, 8.0, [track(ARM, [0, 2, 8], [5, 6, 9]), track(HAND, [0, 8], [7, 8])])
    curved = Clip("curved", 2.0, 3.0, [track(LEG, [2, 3], [0, 1, 3, 2, 4, 0], "CUBICSPLINE")])
    made = recombine(scene, base, {ARM: donor, LEG: curved})
    assert (made.start, made.end) == (1.0, 3.0)
    for node, clip in ((BODY, base), (ARM, donor), (HAND, donor), (LEG, curved)):
        assert where(made, node, share) == pytest.approx(where(clip, node, share), abs=1e-6)


def test_a_limb_on_a_limb_has_the_last_word_and_an_unmoved_limb_rests(scene: Scene) -> None:
    base, arm, hand = (Clip(str(x), 0.0, 1.0, [track(n, [0], [x]) for n in (ARM, HAND)]) for x in (1, 2, 3))
    made = recombine(scene, base, {ARM: arm, HAND: hand})
    assert (where(made, ARM, 0), where(made, HAND, 0)) == (2, 3)
    still = Clip("still", 0.0, 1.0, [])
    assert np.isnan(where(recombine(scene, base, {ARM: still}), HAND, 0))


def test_a_turned_limb_carries_what_hangs_on_it_and_leaves_the_rest(scene: Scene) -> None:
    quarter = np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)], np.float32)  # about z
    tilted = np.array([[[0, 0, 0, 1], [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]]], np.float32)  # to a quarter about x
    swing = Track("rotation", "LINEAR", np.array([ARM]), np.array([0.0, 1.0]), tilted)
    clip = Clip("swing", 0.0, 1.0, [swing, track(HAND, [0], [2]), track(LEG, [0], [1])])
    times = np.array([0.0, 1.0])
    before, after = (world_matrices(scene, c, times) for c in (clip, turned(scene, clip, {ARM: quarter[None]})))
    spin = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for frame in range(2):
        arm, hand = before[ARM, frame], before[HAND, frame]
        assert after[ARM, frame] == pytest.approx(arm @ spin, abs=1e-6)
        assert after[HAND, frame] == pytest.approx(arm @ spin @ np.linalg.inv(arm) @ hand, abs=1e-6)
        assert after[LEG, frame] == pytest.approx(before[LEG, frame])
    still = Clip("still", 0.0, 1.0, [])
    resting, rest = (world_matrices(scene, c, times) for c in (turned(scene, still, {ARM: quarter[None]}), still))
    assert resting[ARM, 1] == pytest.approx(rest[ARM, 1] @ spin, abs=1e-6)


def about_z(degrees: float) -> np.ndarray:
    half = np.radians(degrees) / 2
    return np.array([0, 0, np.sin(half), np.cos(half)], np.float32)


@pytest.mark.parametrize(("time", "turn"), [(2.0, 10.0), (3.0, 30.0), (4.0, 50.0), (5.0, 30.0), (6.0, 10.0)])
def test_a_swing_passes_its_turns_at_even_times_on_top_of_the_clips_own_motion(
    scene: Scene, time: float, turn: float
) -> None:
    own = Track("rotation", "LINEAR", np.array([ARM, HAND]), np.array([2.0, 6.0]), np.zeros((2, 2, 4), np.float32))
    own.values[0] = about_z(-20), about_z(60)
    own.values[1] = about_z(0), about_z(90)
    clip = Clip("swing", 2.0, 6.0, [own, track(LEG, [2], [1])])
    made = turned(scene, clip, {ARM: np.stack([about_z(a) for a in (10, 50, 10)])})
    share = (time - 2) / 4
    for node, degrees in ((ARM, -20 + 80 * share + turn), (HAND, 90 * share)):
        (found,) = [t.sample(np.array([time]))[list(t.nodes).index(node), 0] for t in made.tracks if node in t.nodes]
        assert found == pytest.approx(about_z(degrees), abs=1e-5)
    assert where(made, LEG, share) == 1


def test_a_turned_limb_that_jumps_still_jumps(scene: Scene) -> None:
    jump = Track("rotation", "STEP", np.array([ARM]), np.array([0.0, 0.5]), np.stack([about_z(0), about_z(80)])[None])
    (made,) = turned(scene, Clip("jump", 0.0, 1.0, [jump]), {ARM: np.stack([about_z(0), about_z(40)])}).tracks
    for time, degrees in ((0.25, 10), (0.499999, 20), (0.5, 100), (1.0, 120)):
        assert made.sample(np.array([time]))[0, 0] == pytest.approx(about_z(degrees), abs=1e-5)


def test_a_limbs_turns_share_a_constant_and_differ_by_the_swing() -> None:
    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * float(np.degrees(np.arccos(min(1.0, abs(float(a @ b))))))

    still = limb_turns(np.random.default_rng(0), replace(CONFIG, limb_turn=30.0, swing_keys=3))
    assert still.shape == (3, 4)
    assert np.ptp(still, axis=0) == pytest.approx(0, abs=1e-7)
    drawn = [limb_turns(np.random.default_rng(s), replace(CONFIG, limb_swing=20.0, swing_keys=3)) for s in range(200)]
    apart = [angle(turns[0], turns[1]) for turns in drawn]
    assert max(apart) <= 40.0
    assert np.mean(apart) > 5.0
    assert max(angle(turn, about_z(0)) for turns in drawn for turn in turns) <= 20.0 + 1e-3


def test_random_turns_are_rotations_up_to_the_limit_and_new_poses_for_recombined_variants_alone(scene: Scene) -> None:
    turns = np.stack([random_turn(np.random.default_rng(seed), 30.0) for seed in range(400)])
    assert np.linalg.norm(turns, axis=1) == pytest.approx(1.0, abs=1e-6)
    angles = 2 * np.degrees(np.arccos(turns[:, 3]))
    assert angles.max() <= 30.0
    assert angles.mean() == pytest.approx(15.0, abs=1.0)
    assert np.abs(turns[:, :3].mean(axis=0)).max() < 0.02  # axes in all directions
    item = FamilyItem(CONFIG.assets[0], "walk", 1, held_out=False, recombined=True)
    moved = motion_of(item, scene, replace(CONFIG, limb_turn=30.0))
    assert {t.property for t in moved.tracks if set(t.nodes) & {ARM, LEG}} == {"rotation"}
    plain = replace(item, recombined=False)
    assert motion_of(plain, scene, replace(CONFIG, limb_turn=30.0)) is scene.clip("walk")


def test_held_out_clips_are_neither_items_of_training_nor_donors(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    items = family_items(CONFIG, {"figure.glb": scene})
    assert [(i.clip, i.variant, i.held_out, i.recombined) for i in items] == [
        *(("walk", 0, False, False), ("walk", 1, False, True), ("walk", 2, False, True)),
        *(("wave", 0, False, False), ("wave", 1, False, True), ("wave", 2, False, True)),
        ("unseen", 0, True, False),
    ]
    drawn: set[str] = set()
    monkeypatch.setattr(family, "recombine", lambda scene, base, limbs: drawn.update(c.name for c in limbs.values()))
    for variant in range(40):
        motion_of(FamilyItem(CONFIG.assets[0], "walk", variant, held_out=False, recombined=True), scene, CONFIG)
    assert drawn == {"walk", "wave"}


def test_shares_of_recombined_variants_that_move_a_limb_anew_and_that_look_plain(scene: Scene) -> None:
    config = replace(CONFIG, limb_share=0.5, plain_looks=0.25)
    items = [FamilyItem(CONFIG.assets[0], "walk", v, held_out=False, recombined=True) for v in range(1, 401)]
    moved = [{t.nodes[0] for t in motion_of(item, scene, replace(config, limb_turn=9.0)).tracks} for item in items]
    for limb in (ARM, LEG):
        assert np.mean([limb in nodes for nodes in moved]) == pytest.approx(0.5, abs=0.08)
    hues = np.array([look_of(item, scene, config).hue for item in items])
    assert np.mean(hues == 0) == pytest.approx(0.25, abs=0.08)
    drawn = replace(items[0], recombined=False)  # the other variants' looks do not depend on it
    assert look_of(drawn, scene, config) == look_of(drawn, scene, replace(config, plain_looks=1.0))


def test_a_killed_rendering_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure().write(tmp_path / "figure.glb")
    whole = render_family(CONFIG, tmp_path, tmp_path / "whole")
    draw, calls = family.render_item, []

    def killed(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(family, "render_item", killed)
    with pytest.raises(KeyboardInterrupt):
        render_family(CONFIG, tmp_path, tmp_path / "part")
    assert not (tmp_path / "part" / "family.json").exists()
    part = render_family(CONFIG, tmp_path, tmp_path / "part")
    assert len(calls) == 4 + 1 + 4  # three were kept, and one of them was compared
    files = sorted(path.name for path in whole.iterdir())
    assert files == sorted(path.name for path in part.iterdir())
    assert len(files) == 2 * 7 + 1
    assert all((whole / name).read_bytes() == (part / name).read_bytes() for name in files)


def test_pictures_of_another_version_are_refused(tmp_path: Path) -> None:
    figure().write(tmp_path / "figure.glb")
    folder = render_family(CONFIG, tmp_path, tmp_path / "out")
    assert render_family(CONFIG, tmp_path, folder) == folder
    older = json.loads((folder / "family.json").read_text())
    del older["plain_looks"]  # a field that came later counts as its default
    (folder / "family.json").write_text(json.dumps(older))
    assert render_family(CONFIG, tmp_path, folder) == folder
    with pytest.raises(UserError, match="holds a family of another config"):
        render_family(replace(CONFIG, plain_looks=0.5), tmp_path, folder)
    first = folder / "figure.walk.0.npy"
    grid = np.load(first)
    np.save(first, np.roll(grid, 1, axis=-1))
    with pytest.raises(UserError, match=r"figure\.walk\.0 was rendered from other files or by another version"):
        render_family(CONFIG, tmp_path, folder)


def test_wrong_families_say_what_is_wrong(tmp_path: Path, scene: Scene) -> None:
    with pytest.raises(UserError, match=r"need limbs, figure\.glb names none"):
        replace(CONFIG, assets=[FamilyAsset("figure.glb", worn=[])])
    with pytest.raises(UserError, match="limb_share and plain_looks must lie between 0 and 1"):
        replace(CONFIG, limb_share=1.5)
    wing = FamilyAsset("figure.glb", worn=["octahedron"], limbs=["wing"])
    with pytest.raises(UserError, match="no node 'wing'"):
        motion_of(FamilyItem(wing, "walk", 1, held_out=False, recombined=True), scene, CONFIG)
    with pytest.raises(UserError, match=r"the family needs figure\.glb"):
        render_family(CONFIG, tmp_path / "nowhere", tmp_path / "out")
