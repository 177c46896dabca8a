"""`viewtime evaluate` as a user types it, 4Real-Video's protocol, and assets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sample.metrics.conftest import ROOT, like
from viewtime.cli import main
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.sample.metrics.command import match
from viewtime.sample.metrics.four_real import FourRealEvaluator, load_plugin
from viewtime.sample.metrics.measures.reaction import blur
from viewtime.sample.metrics.networks.filter_bank import FilterBank

METRICS = ["--metrics", "psnr", "ssim", "lpips_star", "mask_iou", "flicker", "fvd_f", "fvd_v", "fvd_diag", "fv4d"]


@pytest.fixture(scope="module")
def folders(spheres: FrameGrid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("grids")
    for name, sigma in (("one", 0.6), ("two", 1.2)):
        spheres.save(root / "gt" / name, lossless=True)
        like(spheres, blur(spheres, sigma), given_views=1).save(root / "pred" / name, lossless=True)
    return root


def test_folders_of_pairs(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--pred", str(folders / "pred"), "--gt", str(folders / "gt"), "--out", str(tmp_path)]
    assert main(["evaluate", *arguments, *METRICS, "--bootstrap", "20", "--four-real"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-5:] == [str(tmp_path / f"{name}") for name in (
        "evaluate.json", "evaluate.md", "evaluate.png", "four_real.json", "four_real.md",
    )]  # fmt: skip
    found = json.loads((tmp_path / "evaluate.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {
        "PSNR",
        "SSIM",
        "LPIPS*",
        "mask IoU",
        "flicker error",
        "FVD-F*",
        "FVD-V*",
        "FVD-Diag*",
        "FV4D*",
    }
    assert all(row["low"] <= row["value"] <= row["high"] and row["protocol"] for row in rows.values())
    assert [pair["name"] for pair in found["pairs"]] == ["one", "two"]
    assert found["pairs"][0]["values"]["psnr"] > found["pairs"][1]["values"]["psnr"]
    assert "FVD-F\\*" in (tmp_path / "evaluate.md").read_text()
    assert np.asarray(Image.open(tmp_path / "evaluate.png").convert("L")).std() > 10


def test_metrics_that_cannot_be_had(folders: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Left out with a reason by default; an error, and no file, where asked for by name."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    pair = ["--pred", str(folders / "pred" / "one"), "--gt", str(folders / "gt" / "one")]
    assert main(["evaluate", *pair, "--metrics", "lpips", "--offline", "--out", str(tmp_path / "a")]) == 1
    assert "LPIPS needs alexnet-owt-7be5be79.pth" in capsys.readouterr().err
    assert not (tmp_path / "a" / "evaluate.json").exists()
    assert main(["evaluate", *pair, "--network", "i3d", "--out", str(tmp_path / "b")]) == 1
    assert "I3D needs its TorchScript file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gt", "{gt}"], "nothing to score"),
        (["--pred", "{pred}"], "no truth"),
        (["--pred", "{pred}/nothing", "--gt", "{gt}"], "no such grid folder"),
        (["--pred", "{pred}/one", "{pred}/two", "--gt", "{gt}/one"], "grids on one side only: two"),
        (["--pred", "{pred}", "--gt", "{gt}", "--clip-stride", "2"], "changes nothing without --clip-frames"),
        (["--pred", "{pred}", "--gt", "{gt}", "--background", "3"], "a grey level"),
        (["--pred", "{pred}", "--four-real", "--metrics", "psnr"], "--metrics compares with a truth"),
    ],
)
def test_misuse_is_told_in_one_line(folders: Path, tmp_path: Path, capsys, arguments, message) -> None:
    arguments = [item.format(pred=folders / "pred", gt=folders / "gt") for item in arguments]
    assert main(["evaluate", *arguments, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_missing_view_is_named(spheres: FrameGrid, tmp_path: Path, capsys) -> None:
    spheres.save(tmp_path / "gt")
    spheres.save(tmp_path / "pred")
    (tmp_path / "pred" / "cells_003.mkv").unlink()
    arguments = ["--pred", str(tmp_path / "pred"), "--gt", str(tmp_path / "gt"), "--metrics", "psnr"]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 1
    assert "cells_003.mkv" in capsys.readouterr().err


class Brightness:
    """A stand-in for a matcher: the confidence of a pixel is its red channel."""

    name = "Toy-Confidence"
    thresholds = (0.25, 0.75)
    protocol = "red channel"

    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        return video[:, 0]


def test_confidence_ratios_by_hand() -> None:
    frames = torch.zeros(4, 5, 3, 16, 16)
    frames[:, :, 0, :4] = 0.5  # a quarter of the pixels over 0.25, none over 0.75
    frames[:, 0, 0] = 1.0  # the given freeze-time video: not counted
    known = torch.zeros(4, 5, dtype=torch.bool)
    known[:, 0] = True
    scorer = FourRealEvaluator(FilterBank(), [Brightness()])
    scorer.add(FrameGrid(frames, known))
    rows, missing = scorer.rows()
    values = {row.name: row.value for row in rows}
    assert values["Toy-Confidence, tau = 0.25 (share)"] == 0.25
    assert values["Toy-Confidence, tau = 0.75 (share)"] == 0.0
    assert "FVD-Test* (view)" in values
    assert "FVD-Test* (time)" in missing


def test_time_and_view_videos_are_measured_apart(spheres: FrameGrid) -> None:
    """Generated rows equal to the given row: FVD-Test (time) 0. Exchanged instants: only the time videos suffer."""
    still = like(spheres, spheres.frames[:1].expand(6, -1, -1, -1, -1).clone(), given_views=1)
    still.known[:, 0] = True
    scorer = FourRealEvaluator(FilterBank())
    scorer.add(still)
    values = {row.name: row.value for row in scorer.rows()[0]}
    assert values["FVD-Test* (time)"] == pytest.approx(0.0, abs=1e-9)
    jumping = like(still, still.frames[:, [0, 5, 2, 7, 4, 1, 6, 3]], given_views=0)
    jumping.frames[0], jumping.known[0], jumping.known[:, 0] = still.frames[0], True, True
    scorer = FourRealEvaluator(FilterBank())
    scorer.add(jumping)
    assert {row.name: row.value for row in scorer.rows()[0]}["FVD-Test* (time)"] > 0.1


def test_plugins_are_checked() -> None:
    plugin = load_plugin(f"{__name__}:Brightness")
    assert plugin.name == "Toy-Confidence"
    with pytest.raises(UserError, match="needs name, thresholds, protocol"):
        load_plugin("viewtime.sample.metrics.measures.image:psnr")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_plugin("viewtime.nothing:Matcher")


class Failing(Brightness):
    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image")


class Undefined(Brightness):
    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        return super().__call__(video) * torch.nan


class InNumpy(Brightness):
    def __call__(self, video: torch.Tensor):
        return super().__call__(video).numpy()


def test_what_a_plugin_gets_wrong_is_named(spheres: FrameGrid) -> None:
    grid = like(spheres, spheres.frames, given_views=1)
    for plugin, message in ((Failing(), "Toy-Confidence failed: RuntimeError: no kernel"), (Undefined(), "not finite")):
        with pytest.raises(UserError, match=message):
            FourRealEvaluator(FilterBank(), [plugin]).add(grid)
    found = []
    for plugin in (Brightness(), InNumpy()):
        scorer = FourRealEvaluator(FilterBank(), [plugin])
        scorer.add(grid)
        found.append(scorer.counts["Toy-Confidence"].tolist())
    assert found[0] == found[1]


def test_confidence_ratios_from_a_plugin_in_the_current_folder(
    folders: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    """As a user types it: no truth, so no metric of pairs is loaded or missed."""
    (tmp_path / "my_matcher.py").write_text(
        "class Red:\n"
        "    name, thresholds, protocol = 'Red-Confidence', (0.25,), 'red channel'\n"
        "    def __call__(self, video):\n"
        "        return video[:, 0]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = ["--pred", str(folders / "pred"), "--four-real", "--confidence-plugin", "my_matcher:Red"]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "LPIPS" not in printed.out + printed.err
    rows = {row["name"]: row["value"] for row in json.loads((tmp_path / "out" / "four_real.json").read_text())["rows"]}
    assert 0.5 < rows["Red-Confidence, tau = 0.25 (share)"] < 1  # mostly white background


def test_an_asset_is_seen_by_the_truths_cameras(tmp_path: Path) -> None:
    """The example asset against its own picture, and against the picture of a camera 40 degrees off."""
    from viewtime.cameras import regular_orbit
    from viewtime.sample.metrics.assets import render_asset
    from viewtime.sample.metrics.measures.image import mask_iou

    asset = next(iter((ROOT / "examples").glob("*.glb")), None)
    if asset is None:
        pytest.skip("no GLB among the examples")
    pytest.importorskip("moderngl")

    def empty(start: float) -> FrameGrid:
        cameras = regular_orbit(2, 2, distance=8.0, azimuth_start=start)
        return FrameGrid(torch.ones(2, 2, 3, 48, 48), torch.zeros(2, 2, dtype=torch.bool), cameras, fps=4.0)

    try:
        seen, turned = render_asset(asset, empty(0.0)), render_asset(asset, empty(40.0))
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error}")
    alpha = seen.alpha()
    assert alpha is not None
    assert 0.002 < alpha.mean() < 0.9
    assert mask_iou(seen.frames, turned.frames).max() < 0.98
    with pytest.raises(UserError, match="animated GLB"):
        render_asset(Path("splats.ply"), empty(0.0))


@pytest.mark.parametrize(("lonely", "said"), [(5, "l3, l4; use"), (6, "l3, l4 and 1 more; use")])
def test_five_grids_without_a_partner_are_named(lonely, said):
    sides = [Path("p/a"), Path("p/b")], [Path("g/a"), Path("g/b"), *(Path(f"g/l{i}") for i in range(lonely))]
    with pytest.raises(UserError, match=said):
        match(*sides)
    assert match(*sides, intersect=True) == [(Path("p/a"), Path("g/a")), (Path("p/b"), Path("g/b"))]
