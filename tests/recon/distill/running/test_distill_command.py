"""`viewtime distill`: from the words to the folder, with exact denoisers and small published networks; bad input."""

import json
import struct

import pytest
import torch
from golden_parts import unet2d, unet3d
from test_published_weights import clip_folder, folder

from viewtime.cli import main
from viewtime.configs.load import presets
from viewtime.configs.schema.distill import MEMORY, DistillConfig
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.judges import open_judge
from viewtime.recon.distill.running.schedule import check_stage, make_objective

SCENE = ["--scene.levels", "3", "--scene.motion_levels", "3", "--scene.log2_table", "10", "--scene.width", "8"]
SCENE += ["--render.samples", "32", "--render.occupancy", "8"]
RESULT = ["--result.views", "4", "--result.frames", "3", "--result.size", "24", "--result.iterations", "30"]


def small_video(stage="motion", size="[[8, 8, 1]]"):
    return ["--guidances.video.size", "[8, 8]", f"--stages.{stage}.shots.video.sizes", size]


def distill(*words):
    return main(["distill", "a red knight walks", *words])


@pytest.mark.parametrize("name", presets("distill"))
@pytest.mark.parametrize("memory", [0, *MEMORY])
def test_every_preset_is_a_schedule(name, memory):
    config = DistillConfig.from_argv(["a panda", "--config", name, "--memory", str(memory)], "test")
    for stage_name, stage in config.stages.items():
        check_stage(stage_name, stage, set(config.cameras), set(config.guidances))
        assert set(stage.ranges) <= set(config.guidances)
    for options in config.guidances.values():
        make_objective(options)
    if memory:
        assert config.render.at_once > 0


def test_the_papers_numbers():
    fy, paper = (DistillConfig.from_argv(["a", "--config", name], "t") for name in ("4d-fy-code", "4d-fy-paper"))
    assert [s.steps for s in fy.stages.values()] == [10000, 25000, 100000]
    assert [s.steps for s in paper.stages.values()] == [10000, 10000, 100000]
    last = fy.stages["motion"]
    assert [last.shots[name].probability for name in ("views", "image", "video")] == [0.5, 0.25, 0.25]
    assert last.rates == {"static": 1e-4, "dynamic": 1e-2, "networks": 1e-3, "background": 1e-3, "copy": 1e-4}
    assert fy.guidances["video"].weight == {"sds": 0.1}
    dream = [DistillConfig.from_argv(["a", "--config", f"dream-in-4d-{n}"], "t") for n in ("code", "paper", "image")]
    assert [d.guidances["image"].weight["sds"] for d in dream] == [1.0, 1.0, 0.1]
    assert [d.guidances["views"].weight["sds"] for d in dream[:2]] == [2.0, 1.0]
    assert set(dream[0].stages["motion"].rates) == {"dynamic", "motion_network", "background"}
    assert "views" not in dream[2].guidances


def test_method_and_image_choose_the_preset():
    def chosen(*words):
        return DistillConfig.from_argv(["a", *words], "test").config

    assert chosen() == "4d-fy-code"
    assert chosen("--method", "dream-in-4d") == "dream-in-4d-code"
    assert chosen("--method", "dream-in-4d", "--image", "in.png") == "dream-in-4d-image"


def test_from_words_to_an_animated_mesh(tmp_path, capsys):
    lengths = ["--stages.shape.steps", "60", "--stages.motion.steps", "2", "--result.page", "true"]
    sizes = ["--guidances.views.size", "[16, 16]", "--guidances.image.size", "[16, 16]"]
    sizes += ["--stages.shape.shots.both.sizes", "[[16, 16, 1]]", *small_video()]
    words = ["--config", "dream-in-4d-debug", "--render.samples", "48", "--render.occupancy", "12", *RESULT]
    assert distill(*words, *lengths, *sizes, "--out", str(tmp_path / "run")) == 0
    printed = capsys.readouterr().out.split()
    for path in ("losses.jsonl", "preview.png", "grid", "asset/asset.glb", "asset/orbit.mp4", "asset/asset.html"):
        assert (tmp_path / "run" / path).exists(), path
        assert str(tmp_path / "run" / path) in printed
    assert not (tmp_path / "run" / "state.pt").exists()
    lines = (tmp_path / "run" / "losses.jsonl").read_text().splitlines()
    assert len(lines) == 62
    assert set(json.loads(lines[-1])["losses"]) >= {"video.latent", "video.color"}
    grid = FrameGrid.load(tmp_path / "run" / "grid")
    assert grid.shape == (4, 3, 4, 24, 24)
    assert grid.alpha().max() > 0.5
    data = (tmp_path / "run" / "asset" / "asset.glb").read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    assert json.loads(data[20 : 20 + length])["animations"]


def test_what_a_guidance_alone_draws(tmp_path, capsys):
    words = ["--config", "dream-in-4d-debug", *small_video(), "--preview_prior", "true", "--preview_steps", "4"]
    assert distill(*words, "--out", str(tmp_path / "run")) == 0
    paths = sorted(path.name for path in (tmp_path / "run").glob("prior_*.png"))
    assert paths == ["prior_image.png", "prior_video.png", "prior_views.png"]


@pytest.fixture
def networks(tmp_path):
    image = clip_folder(folder(tmp_path / "image", unet2d("sd")))
    video = clip_folder(folder(tmp_path / "video", unet3d()))
    return ["--weights.image", str(image), "--weights.video", str(video)]


def test_4d_fys_stages_with_small_published_networks(networks):
    words = ["--config", "4d-fy-code", *networks, *SCENE, "--stages.shape.steps", "0"]
    words += ["--stages.appearance.steps", "2", "--stages.appearance.shots.views.probability", "0"]
    words += ["--stages.appearance.shots.image.probability", "1", "--stages.motion.shots.views.probability", "0"]
    words += ["--stages.motion.steps", "3", "--stages.motion.shots.image.probability", "0"]
    words += ["--stages.motion.shots.video.probability", "1"]
    words += ["--guidances.image.resize", "[16, 16]", "--guidances.video.resize", "[16, 16]"]
    words += [
        "--stages.appearance.shots.image.sizes",
        "[[8, 8, 1]]",
        "--stages.motion.shots.video.sizes",
        "[[8, 8, 1]]",
    ]
    words += ["--stages.motion.shots.video.frames", "4"]
    config = DistillConfig.from_argv(["a knight", *words], "test")
    fit = DistillFit(config, lambda name: open_judge(name, config, torch.device("cpu")))
    fit.step()
    copy = fit.judges["image"].teacher.copy
    before = {name: value.clone() for name, value in copy.state_dict().items()}
    fit.step()
    assert any(not torch.equal(value, before[name]) for name, value in copy.state_dict().items())
    prompt = fit.judges["image"].teacher.prompt
    assert prompt.words is not None
    assert fit.judges["image"].teacher.copy_prompt.words is None
    table = fit.scene.field.dynamic.table.clone()
    while not fit.finished():
        fit.step()
    assert not torch.equal(table, fit.scene.field.dynamic.table)
    assert [list(record["losses"]) for record in fit.records[:2]] == [["image.vsd", "image.lora", "image.sparsity"]] * 2
    assert [list(record["losses"]) for record in fit.records[2:]] == [["video.sds", "video.sparsity"]] * 3
    assert not any(record["skipped"] for record in fit.records)


def picture(path, channels):
    pixels = torch.zeros(16, 16, channels)
    pixels[4:12, 4:12] = 1.0
    return str(write_image(path, pixels))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no weights are given for"),
        (["--weights.views", "{tmp}/none"], "there is nothing at"),
        (["--weights.vews", "x"], "no guidance has that name"),
        (["--image", "{rgba}", "--method", "4d-fy", "--config", "4d-fy-code"], "follows no picture"),
        (["--config", "dream-in-4d-image"], "give --image FILE.png"),
        (["--config", "dream-in-4d-debug", "--lora", "{tmp}"], "no guidance by Stable Diffusion"),
        (["--config", "dream-in-4d-debug", "--device", "cuda"], "no CUDA device"),
        (["--memory", "13"], "--memory 13; one of 12, 24, 48, 80"),
        (["--config", "dream-in-4d-debug", "--stages.motion.stesp", "3"], "did you mean steps"),
        (["--config", "mini"], "is a preset of viewtime train"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    places = {"tmp": str(tmp_path), "rgba": picture(tmp_path / "rgba.png", 4)}
    assert distill(*(word.format(**places) for word in words), "--out", str(tmp_path / "run")) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_image_without_alpha_is_refused(tmp_path):
    from viewtime.configs.schema.distill import ReferenceOptions
    from viewtime.errors import UserError
    from viewtime.recon.distill.running.reference import Reference

    with pytest.raises(UserError, match="has no alpha channel"):
        Reference.read(picture(tmp_path / "rgb.png", 3), ReferenceOptions())
    with pytest.raises(UserError, match="it must leave a background"):
        Reference.read(write_image(tmp_path / "full.png", torch.ones(8, 8, 4)), ReferenceOptions())


def test_an_empty_prompt(capsys):
    assert main(["distill", " ", "--config", "dream-in-4d-debug"]) == 1
    assert "the prompt is empty" in capsys.readouterr().err
