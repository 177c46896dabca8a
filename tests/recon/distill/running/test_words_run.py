"""4D-fy's three stages by a model of captions, from the command: one file of weights is all three guidances."""

import json
from dataclasses import asdict

import pytest
import torch

from viewtime.cli import main
from viewtime.grid import FrameGrid
from viewtime.model.mini.words import WordsConfig, WordsNetwork
from viewtime.weights import save_weights

SIZES = {"size": 16, "stem_widths": (8, 16), "width": 32, "depth": 2, "head_dim": 16}
CONFIG = WordsConfig(("knight", "horse"), ("red", "blue"), ("walks walking walk",), **SIZES)
SCENE = ["--scene.levels", "3", "--scene.motion_levels", "3", "--scene.log2_table", "10", "--scene.width", "8"]
SCENE += ["--render.samples", "32", "--render.occupancy", "8", "--result.reconstruct", "false"]
SCENE += ["--result.views", "2", "--result.frames", "2", "--result.size", "16"]


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = WordsNetwork(CONFIG)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    record = {"model": {"name": "mini-words", "config": asdict(CONFIG)}}
    return save_weights(tmp_path / "words.safetensors", network.state_dict(), record)


def distill(caption, weights, *words):
    files = [word for name in ("views", "image", "video") for word in (f"--weights.{name}", str(weights))]
    return main(["distill", caption, "--config", "4d-fy-words", *files, *SCENE, *words])


def test_three_stages_by_one_model(weights, tmp_path):
    steps = ["--stages.shape.steps", "2", "--stages.appearance.steps", "4", "--stages.motion.steps", "8"]
    assert distill("a red horse walks", weights, *steps, "--out", str(tmp_path / "run")) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    told = {stage: {name.split(".")[0] for line in lines if line["stage"] == stage for name in line["losses"]}
            for stage in ("shape", "appearance", "motion")}  # fmt: skip
    assert told == {"shape": {"views"}, "appearance": {"views", "image"}, "motion": {"views", "image", "video"}}
    assert not any(line["skipped"] for line in lines)
    assert FrameGrid.load(tmp_path / "run" / "grid").shape == (2, 2, 4, 16, 16)


def test_captions_matter_to_a_run(weights, tmp_path):
    once = ["--stages.shape.steps", "1", "--stages.appearance.steps", "0", "--stages.motion.steps", "0"]
    first = {}
    for caption in ("a red horse", "a red horse!", "a blue horse"):
        out = tmp_path / str(len(first))
        assert distill(caption, weights, *once, "--out", str(out)) == 0
        first[caption] = json.loads((out / "losses.jsonl").read_text().splitlines()[0])["losses"]["views.sds"]
    assert first["a red horse"] == first["a red horse!"] != first["a blue horse"]


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a red camel", "the model knows no 'camel'; it knows kinds knight, horse; colours red, blue; motions walks"),
        ("walking", "give one kind, at most one colour and one motion"),
    ],
)
def test_other_words_end_the_command_in_one_line(weights, tmp_path, capsys, caption, message):
    assert distill(caption, weights, "--out", str(tmp_path / "run")) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert "--weights" not in error
    assert not (tmp_path / "run").exists()


def test_it_takes_no_video(weights):
    from viewtime.errors import UserError
    from viewtime.sample.models.loading import load_model

    with pytest.raises(UserError, match="holds mini-words, which takes no video: it guides viewtime distill"):
        load_model(str(weights), torch.device("cpu"))
