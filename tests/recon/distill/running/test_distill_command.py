"""`viewtime distill`: from the words to the folder, with exact denoisers and small published networks; bad input."""

import json
import os
import re
import shutil
import struct

import pytest
import torch
from golden_parts import unet2d, unet3d
from test_published_weights import clip_folder, folder

from tests.sample.small_models import mini_weights
from viewtime.cameras import regular_orbit
from viewtime.cli import main
from viewtime.configs.load import presets
from viewtime.configs.schema.distill import MEMORY, DistillConfig
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.recon.distill.known_scene import KnownGaussians
from viewtime.recon.distill.memory import StepMemory
from viewtime.recon.distill.running.estimate import say_estimate
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


def knights_clip(path, frames=5, size=32):
    """A grid folder with one view of the knight that ships."""
    cameras = regular_orbit(1, frames, elevation=10.0, distance=2.7, fov_y=30.0)
    times = torch.arange(frames, dtype=torch.float64) / frames
    cells = KnownGaussians.of()(cameras, times, (size, size))
    straight = torch.cat([cells[:, :, :3] / cells[:, :, 3:].clamp_min(1e-4), cells[:, :, 3:]], dim=2).clamp(0, 1)
    known = torch.ones(1, frames, dtype=torch.bool)
    return str(FrameGrid(straight, known, cameras, 12.0, {}).save(path, lossless=True))


@pytest.fixture
def by_mini(tmp_path):
    """Both papers' guidances replaced by our own small network: four views of an instant, and a video of one view."""
    words = ["--config", "dream-in-4d-debug", *SCENE, "--stages.shape.shots.both.guidances", "[views]"]
    for name, views, loss, weight in (("views", 4, "reconstruction", "{sds: 0.01}"), ("video", 1, "sds", "{sds: 1.0}")):
        words += [f"--guidances.{name}.model", "grid", f"--guidances.{name}.views", str(views)]
        words += [f"--guidances.{name}.loss", loss, f"--guidances.{name}.weight", weight]
        words += [f"--weights.{name}", str(mini_weights(tmp_path))]
    words += ["--stages.shape.shots.both.sizes", "[[16, 16, 1]]", "--stages.motion.shots.video.sizes", "[[16, 16, 1]]"]
    return [*words, "--stages.motion.shots.video.frames", "5"]


def test_our_own_grid_model_guides_views_and_videos(by_mini, tmp_path, capsys):
    clip = knights_clip(tmp_path / "clip")
    words = [*by_mini, "--guidances.views.clip", clip, "--guidances.video.clip", clip]
    steps = ["--stages.shape.steps", "3", "--stages.motion.steps", "3", "--result.reconstruct", "false"]
    assert distill(*words, *steps, *RESULT, "--out", str(tmp_path / "run")) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    assert [set(line["losses"]) - {"video.variation"} for line in lines] == [{"views.sds"}] * 3 + [{"video.sds"}] * 3
    assert not any(line["skipped"] for line in lines)
    prior = ["--preview_prior", "true", "--preview_steps", "2", "--out", str(tmp_path / "prior")]
    assert distill(*words, *prior) == 0
    assert {path.name for path in (tmp_path / "prior").glob("*.png")} == {"prior_views.png", "prior_video.png"}
    capsys.readouterr()
    assert distill(*by_mini, "--guidances.video.clip", clip, "--out", str(tmp_path / "no")) == 1
    assert "give --guidances.views.clip GRID_FOLDER" in capsys.readouterr().err
    short = knights_clip(tmp_path / "short", frames=2)
    assert distill(*words[:-1], short, *steps, "--out", str(tmp_path / "no")) == 1
    assert "has 2 frames; its videos have 5" in capsys.readouterr().err


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


NO_VIEWS = [
    *("--stages.shape.steps", "0", "--stages.appearance.shots.views.probability", "0"),
    *("--stages.appearance.shots.image.probability", "1", "--stages.motion.shots.views.probability", "0"),
    *("--stages.motion.shots.image.probability", "0.5", "--stages.motion.shots.video.probability", "0.5"),
]


class Code:
    def __reduce__(self):
        return os.system, ("touch stolen",)


def test_wrong_weights_of_any_stage_end_the_run_before_it_starts(networks, tmp_path, capsys, monkeypatch):
    """Each in one line that names the guidance; nothing is written, and no code of a pickle runs."""
    monkeypatch.chdir(tmp_path)
    image, video = networks[1], networks[3]
    torch.save({"state_dict": {"a": torch.zeros(2)}, "callbacks": Code()}, "evil.ckpt")
    shutil.copytree(image, "mute")
    shutil.rmtree("mute/text_encoder")
    (tmp_path / "lora").mkdir()
    for changes, message in (
        (["--weights.video", image], "guidance video: .* holds a network for images; one for videos is asked for"),
        (["--weights.image", video], "guidance image: .* holds a network for videos"),
        (["--weights.image", "evil.ckpt"], r"guidance image: evil.ckpt is a pickle that names \w+.system"),
        (["--weights.image", "mute"], r"guidance image: mute holds no text encoder.*--guidances.image.text_encoder"),
        (["--guidances.image.carrier", video], r"unet holds UNet3DConditionModel; UNet2DConditionModel is needed"),
        (["--guidances.image.carrier", "none"], "guidance image: there is nothing at none for sd-2.1"),
        (["--lora", "lora"], "guidance image: lora has no pytorch_lora_weights.safetensors"),
    ):
        assert distill("--config", "4d-fy-code", *NO_VIEWS, *networks, *changes, "--out", "run") == 1
        error = capsys.readouterr().err.strip()
        assert re.search(message, error), error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "stolen").exists()


def test_a_run_that_does_not_fit_is_refused_with_what_would(networks, tmp_path, capsys, monkeypatch):
    """The estimate is said first; a run that was told to start anyway starts."""
    seen = []

    def pretended(options, objective, *shape, **others):
        seen.append(options)
        return StepMemory(4 * 2**30, 30 * 2**30)

    monkeypatch.setattr("viewtime.recon.distill.memory.step_memory", pretended)
    out = ["--out", str(tmp_path / "run")]
    assert distill("--config", "4d-fy-code", *NO_VIEWS, *networks, "--memory", "24", *out) == 1
    *said, error = capsys.readouterr().err.strip().splitlines()
    assert set(seen) == {"sd-2.1-base", "zeroscope"}
    assert any("stage appearance: about" in line and "guidances 4.0, their step 26.0" in line for line in said)
    assert re.search(
        r"stage motion needs about 4\d GB and there are 24: take --memory 12, or start with --fit_anyway", error
    )
    assert not (tmp_path / "run").exists()
    config = DistillConfig.from_argv(
        ["a", "--config", "4d-fy-code", *NO_VIEWS, *networks, "--memory", "24", "--fit_anyway", "true"], "test"
    )
    say_estimate(config, torch.device("cpu"))


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
        (["--image", "{rgba}", "--method", "4d-fy"], "4d-fy takes no picture; use --method dream-in-4d"),
        (["--method", "5d"], "--method 5d; one of 4d-fy, dream-in-4d"),
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


def test_an_empty_prompt_and_none(capsys):
    assert main(["distill", " ", "--config", "dream-in-4d-debug"]) == 1
    assert "the prompt is empty" in capsys.readouterr().err
    assert main(["distill", "--config", "dream-in-4d-debug"]) == 2
    assert "no prompt: viewtime distill PROMPT comes first" in capsys.readouterr().err
