"""The papers' tables by one command each, on small stand-ins of the published layouts and of the networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.sample.metrics.conftest import like
from tests.sample.metrics.test_consistent4d import pictures, write_object
from tests.sample.metrics.tiny_clip import tiny_clip
from viewtime.cli import main
from viewtime.configs.schema.evaluate import EvaluateConfig
from viewtime.data.curation.heldout import heldout_ids
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.many import published_masks, videos_in
from viewtime.sample.input.mask_files import read_masks
from viewtime.sample.metrics import command
from viewtime.sample.metrics.four_real import FourRealEvaluator, load_plugin
from viewtime.sample.metrics.measures.reaction import blur
from viewtime.sample.metrics.measures.traversal import view_clips, wrapped
from viewtime.sample.metrics.networks.filter_bank import FilterBank
from viewtime.sample.metrics.networks.inception import Inception
from viewtime.sample.metrics.networks.perceptual import LpipsStar
from viewtime.sample.metrics.networks.sift import SiftConfidence
from viewtime.sample.metrics.networks.video import I3D
from viewtime.sample.metrics.tables import TABLES, as_the_table, table_protocol

IDS = sorted(id for id, test_set in heldout_ids().items() if test_set == "objaversedy_test")


class SmallI3D(nn.Module):
    """The call of the TorchScript file; refuses clips that the real one refuses."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        if rescale or resize or not return_features or x.shape[2] < 10:
            raise ValueError("not as published")
        return torch.cat([x.mean(dim=(3, 4)).amax(dim=2), x.mean(dim=(2, 3, 4))], dim=1)


class SmallInception(nn.Module):
    """Pictures of 8 bits to the mean of each channel."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        if x.dtype != torch.uint8 or not return_features:
            raise ValueError("not as published")
        return x.float().mean(dim=(2, 3))


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that name small networks; LPIPS, whose weights are not here, is noted and stood in for."""
    torch.jit.script(SmallI3D()).save(str(tmp_path / "i3d.pt"))
    name, weights = tiny_clip(tmp_path)

    def stand_in(net: str, device: str, offline: bool) -> LpipsStar:
        metric = LpipsStar(FilterBank(device))
        metric.protocol = f"stand-in for LPIPS {net}"
        return metric

    monkeypatch.setattr(command, "Lpips", stand_in)
    return [
        "--network-weights", str(tmp_path / "i3d.pt"), "--clip-model", name, "--clip-weights", str(weights),
        "--bootstrap", "0",
    ]  # fmt: skip


def evaluated(out: Path, name: str = "evaluate") -> tuple[dict[str, dict], dict]:
    found = json.loads((out / f"{name}.json").read_text())
    return {row["name"]: row for row in found["rows"]}, found["protocol"]


@pytest.mark.parametrize("table", ["sv4d-1", "sv4d-2"])
def test_consistent4d_as_published(table: str, networks: list[str], tmp_path: Path) -> None:
    for seed, name in enumerate(("aurorus", "skull")):
        write_object(tmp_path / "truth" / name, pictures(seed))
        write_object(tmp_path / "made" / name, pictures(seed + 5))
    arguments = ["--table", table, "--pred", str(tmp_path / "made"), "--gt", str(tmp_path / "truth")]
    assert main(["evaluate", *arguments, *networks, "--out", str(tmp_path / "out")]) == 0
    rows, protocol = evaluated(tmp_path / "out")
    assert list(rows) == ["LPIPS", "CLIP-S", "FVD-F"]
    assert "LPIPS vgg" in rows["LPIPS"]["protocol"]
    assert "I3D (TorchScript), sha256" in rows["FVD-F"]["protocol"]
    assert rows["FVD-F"]["value"] > 0
    assert protocol["table"] == f"SV4D, table {table[-1]}"
    assert {"sv4d-1": "FVD-F 677.68", "sv4d-2": "FVD-F 732.4"}[table] in protocol["published"]


def test_objects_of_objaversedy_by_their_ids(spheres: FrameGrid, networks: list[str], tmp_path: Path, capsys) -> None:
    """Six views, of which five were made: FVD-V goes round twice, the missing ids are listed, others are refused."""
    longer = FrameGrid(
        spheres.frames.repeat(1, 2, 1, 1, 1)[:, :10], spheres.known.repeat(1, 2)[:, :10], None, spheres.fps
    )
    for id in IDS[:2]:
        longer.save(tmp_path / "gt" / f"{id}-walk", lossless=True)
        like(longer, blur(longer, 1.0), given_views=1).save(tmp_path / "pred" / f"{id}-walk", lossless=True)
    arguments = ["--table", "sv4d-3", "--pred", str(tmp_path / "pred"), "--gt", str(tmp_path / "gt"), *networks]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 0
    rows, protocol = evaluated(tmp_path / "out")
    assert list(rows) == ["LPIPS", "CLIP-S", "FVD-F", "FVD-V", "FVD-Diag", "FV4D"]
    assert "whole, an orbit of fewer than 10 views goes on from its first view: 10 frames" in rows["FVD-V"]["protocol"]
    assert protocol["objects"].startswith("2 of 20 of objaversedy_test; missing: ")
    assert all(id in protocol["objects"] for id in IDS[2:])
    (tmp_path / "gt" / f"{IDS[0]}-walk").rename(tmp_path / "gt" / "bunny")
    (tmp_path / "pred" / f"{IDS[0]}-walk").rename(tmp_path / "pred" / "bunny")
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "other")]) == 1
    assert "bunny is none of the 20 objects of SV4D, table 3" in capsys.readouterr().err


def test_davis_as_published_gives_clips_masks_and_real_videos(networks: list[str], tmp_path: Path) -> None:
    """JPEGImages/480p/CLIP/00000.jpg, Annotations/480p/CLIP/00000.png with a palette; 16 pictures a clip."""
    davis = tmp_path / "DAVIS"
    inside = np.zeros((24, 40), bool)
    inside[6:18, 10:30] = True
    for clip in ("bear", "camel"):
        for frame in range(16):
            picture = np.random.default_rng(frame).integers(0, 255, (24, 40, 3), dtype=np.uint8)
            write(davis / "JPEGImages" / "480p" / clip / f"{frame:05d}.jpg", picture)
            # The colour of object 1 in DAVIS' palette.
            label = np.where(inside[..., None], (128, 0, 0), 0).astype(np.uint8)
            write(davis / "Annotations" / "480p" / clip / f"{frame:05d}.png", label)
    clips = videos_in(davis / "JPEGImages" / "480p")
    assert list(clips) == ["bear", "camel"]
    flag, masks = published_masks(clips["camel"])
    assert flag == "--mask"
    assert ((read_masks(masks, 16, (24, 40)) > 127) == inside).all()
    assert published_masks(davis) == ()

    torch.jit.script(SmallInception()).save(str(tmp_path / "inception.pt"))
    coarse = torch.rand(2, 16, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(2, 16, dtype=torch.bool)
    known[0] = True
    FrameGrid(coarse, known).save(tmp_path / "grids" / "bear", lossless=True)
    arguments = [
        "--table", "4real", "--pred", str(tmp_path / "grids"), "--real-videos", str(davis / "JPEGImages" / "480p"),
        "--fid-weights", str(tmp_path / "inception.pt"), "--out", str(tmp_path / "out"),
        "--confidence-plugin", "viewtime.sample.metrics.networks.sift:SiftConfidence",
    ]  # fmt: skip
    assert main(["evaluate", *arguments, *networks]) == 0
    rows, protocol = evaluated(tmp_path / "out", "four_real")
    assert {"FVD-Test (time)", "FVD (time)", "FID-Test", "FID", "SIFT-Confidence, tau = 0.5 (share)"} <= set(rows)
    assert rows["FID"]["samples"].startswith("16 pictures against 32")
    assert "sha256" in rows["FID"]["protocol"]
    assert "clips of 16 frames" in rows["FVD (time)"]["protocol"]
    assert protocol["table"] == "4Real-Video, tables 1 and 2"


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, picture)


def test_a_table_does_not_give_way_to_options() -> None:
    with pytest.raises(UserError, match="sets --lpips-net to vgg, not squeeze"):
        as_the_table(EvaluateConfig(table="sv4d-1", lpips_net="squeeze"))
    for name in TABLES:
        changed = as_the_table(EvaluateConfig(table=name))  # type: ignore[arg-type]
        assert all(getattr(changed, key) == value for key, value in TABLES[name].options.items())
    assert table_protocol("sv4d-4", [f"objaverse-{id}" for id in IDS])["objects"] == "20 of 20 of objaversedy_test"


def test_an_orbit_goes_round() -> None:
    clip = view_clips(8, 2)[1]
    assert wrapped(clip, 10) == [*clip, (0, 1), (1, 1)]
    assert wrapped(clip, 5) == clip


def test_fid_of_pictures_that_differ_in_brightness_alone(tmp_path: Path) -> None:
    """Features are the channels' means, so the distance is the squared distance of the colours of 8 bits."""
    torch.jit.script(SmallInception()).save(str(tmp_path / "inception.pt"))
    frames = torch.full((2, 10, 3, 16, 16), 0.2)
    frames[1] = 0.6
    known = torch.zeros(2, 10, dtype=torch.bool)
    known[0] = True
    scorer = FourRealEvaluator(FilterBank(), inception=Inception(tmp_path / "inception.pt"))
    scorer.add(FrameGrid(frames, known))
    rows, missing = scorer.rows()
    assert {row.name: row.value for row in rows}["FID-Test"] == pytest.approx(3 * (153 - 51) ** 2)
    assert missing["FID"] == "no pictures of real videos"


def test_sift_tells_views_of_one_scene_from_noise() -> None:
    """A texture that moves sideways obeys a geometry of two views; two textures that are unlike have hardly a match."""
    coarse = torch.rand(2, 3, 24, 34, generator=torch.Generator().manual_seed(3))
    texture = nn.functional.interpolate(coarse, (96, 136), mode="bicubic").clamp(0, 1)
    moved = torch.stack([texture[0, :, :, shift : shift + 96] for shift in (0, 6)])
    unlike = torch.stack([texture[0, :, :, :96], texture[1, :, :, :96]])
    shares = [(SiftConfidence()(video) > 0.5).double().mean().item() for video in (moved, unlike)]
    assert shares[0] > 0.5
    assert shares[1] < 0.2
    assert SiftConfidence()(torch.ones(2, 3, 32, 32)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('boom')", "failed to load: RuntimeError: boom"),
        ("def x(:", "failed to load: SyntaxError: invalid syntax"),
        ("class x:\n    def __init__(self): raise OSError('no weights')", "failed to load: OSError: no weights"),
    ],
)
def test_a_plug_in_that_does_not_load_is_named(source: str, words: str, tmp_path: Path, monkeypatch) -> None:
    module = f"plug_{abs(hash(source))}"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=words):
        load_plugin(f"{module}:x")


def test_a_script_of_another_network_is_no_inception_and_no_i3d(networks: list[str], tmp_path: Path) -> None:
    torch.jit.script(SmallInception()).save(str(tmp_path / "inception.pt"))
    with pytest.raises(UserError, match=r"i3d\.pt is not Inception v3 for FID"):
        Inception(tmp_path / "i3d.pt")(torch.rand(2, 3, 8, 8))
    with pytest.raises(UserError, match=r"inception\.pt is not I3D of Kinetics-400"):
        I3D(tmp_path / "inception.pt")(torch.rand(1, 10, 3, 8, 8))


def test_a_folder_of_real_videos_may_hold_notes_and_must_hold_videos(tmp_path: Path, capsys) -> None:
    """Refused before any grid is measured."""
    (tmp_path / "README.txt").write_text("of last year")
    (tmp_path / "void").mkdir()
    frames, known = torch.rand(2, 8, 3, 16, 16), torch.zeros(2, 8, dtype=torch.bool)
    FrameGrid(frames, known, None, 8.0).save(tmp_path / "grid")
    arguments = ["evaluate", "--four-real", "--pred", str(tmp_path / "grid"), "--real-videos"]
    assert main([*arguments, str(tmp_path / "void"), "--out", str(tmp_path / "out")]) == 1
    assert "no film and no folder of pictures in it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for number in range(8):
        write_image(tmp_path / "real" / "bear" / f"{number}.png", np.full((16, 16, 3), 9 * number, np.uint8))
    (tmp_path / "real" / ".DS_Store").write_text("x")
    (tmp_path / "real" / "README.txt").write_text("x")
    assert main([*arguments, str(tmp_path / "real"), "--out", str(tmp_path / "out")]) == 0
    assert "FVD* (time)" in evaluated(tmp_path / "out", "four_real")[0]
