"""Captions from a file or a manifest to tokens in a batch, through a tiny text tower with random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.four_real.conftest import stir
from viewtime.configs.load import build
from viewtime.configs.schema.train import ConditioningSection, TrainConfig
from viewtime.data.captions import read_caption
from viewtime.data.live.asset_list import list_assets
from viewtime.errors import UserError
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.train.objective.conditioning import apply_conditioning
from viewtime.train.objective.losses import sample_generator
from viewtime.train.streams.captioned import with_captions
from viewtime.video import write_video
from viewtime.weights import save_weights

pytest.importorskip("open_clip")
from viewtime.model.four_real.text import ClipText, build_text_tower

TINY = {"width": 32, "heads": 2, "layers": 2}


@pytest.fixture(scope="module")
def text_weights(tmp_path_factory):
    """A file as open_clip writes it: text, image half and scale."""
    torch.manual_seed(0)
    tower = build_text_tower(TINY).state_dict()
    others = {"visual.conv1.weight": torch.zeros(2, 2), "logit_scale": torch.zeros(1), "text_projection": torch.eye(32)}
    return save_weights(tmp_path_factory.mktemp("text") / "open_clip_model.safetensors", {**tower, **others}, {})


@pytest.fixture
def videos(tmp_path):
    """Two videos, one of them with a caption."""
    frames = np.random.default_rng(0).integers(0, 255, (6, 16, 24, 3), dtype=np.uint8)
    for name in ("fox", "plain"):
        write_video(tmp_path / f"{name}.mp4", frames, 8)
    (tmp_path / "fox.txt").write_text("a red fox\n walks \n")
    return tmp_path


def options(videos, **text):
    return {
        "text": {"width": 32, "architecture": TINY, **text}, "videos": str(videos), "channels": 3, "views": 2,
        "frames": 3, "resolution": 8, "width": 16, "workers": 0,
    }  # fmt: skip


def test_the_text_beside_a_file_is_its_caption(videos):
    assert read_caption(videos / "fox.mp4") == "a red fox walks"
    assert read_caption(videos / "plain.mp4") == ""
    (videos / "plain.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        read_caption(videos / "plain.mp4")


def test_assets_take_captions_from_the_manifest_or_a_file_beside(tmp_path):
    rows = [
        {"id": name, "path": f"{name}.glb", "decision": "keep", "clips": [], "caption": caption}
        for name, caption in (("cat", "a cat jumps"), ("dog", ""), ("cow", ""))
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "dog.txt").write_text("a dog")
    captions = {asset.id: asset.caption for asset in list_assets(str(tmp_path))}
    assert captions == {"cat": "a cat jumps", "dog": "a dog", "cow": ""}


def test_a_batch_carries_the_tokens_of_its_captions(videos, text_weights):
    stream = with_captions(options(videos, weights=str(text_weights)), batch_size=6, seed=0, rank=0, world=1)
    batch = next(iter(stream))
    assert set(batch["captions"]) == {"a red fox walks", ""}
    assert batch["cond"]["text"].shape == (6, 77, 32)
    encoder = ClipText(text_weights, TINY)
    torch.testing.assert_close(batch["cond"]["text"], encoder(batch["captions"]))
    empty = torch.tensor([not caption for caption in batch["captions"]])
    assert (batch["cond"]["text"][empty] == 0).all()
    assert (batch["cond"]["text"][~empty].abs().amax(dim=(1, 2)) > 0.1).all()
    assert stream.state_dict()["positions"]


def test_without_weights_the_text_is_no_text_and_the_log_says_so(videos, caplog):
    stream = with_captions(options(videos), batch_size=2, seed=0, rank=0, world=1)
    assert torch.equal(next(iter(stream))["cond"]["text"], torch.zeros(2, 1, 32))
    assert "captions are not used" in caplog.text


def test_wrong_encoders_are_named(videos, text_weights, tmp_path):
    for changed, message in (
        ({"width": 24, "weights": str(text_weights)}, "32 wide; data.options.text.width is 24"),
        ({"weights": str(text_weights), "architecture": {"width": 16, "heads": 2, "layers": 2}}, "token_embedding"),
        ({"weights": str(tmp_path / "absent.safetensors")}, "absent.safetensors"),
        ({"weigths": "x"}, "weights"),
    ):
        with pytest.raises(UserError, match=message):
            with_captions(options(videos, **changed), batch_size=1, seed=0, rank=0, world=1)


def test_dropout_leaves_no_text_for_the_stated_share_of_samples():
    """Classifier-free guidance: dropped text is the zeros that an empty caption gives, everything else stays."""
    section = ConditioningSection(dropout={"text": 0.25})
    x0, text = torch.zeros(400, 1, 1, 3, 2, 2), torch.ones(400, 5, 4)
    generators = [sample_generator(0, index) for index in range(400)]
    cond = apply_conditioning(x0, {"text": text, "azimuth": torch.ones(400, 1, 1)}, section, generators)
    dropped = (cond["text"] == 0).flatten(1).all(1)
    assert 0.19 < dropped.float().mean() < 0.31
    assert torch.equal(cond["text"][~dropped], text[~dropped])
    assert torch.equal(cond["azimuth"], torch.ones(400, 1, 1))


def test_training_on_captions_reaches_the_text_layers(videos, text_weights, tmp_path):
    """Two stages of shape 8 x 16 and 12 x 24 through the loop: the text attention's weights move."""
    from viewtime.train.loop import Trainer

    base = {"patch": 4, "width": 32, "depth": 1, "head_dim": 16, "text_width": 32, "frame_size": [12, 24]}
    mapping = {
        "model": {"name": "4real-base", "config": base},
        "data": {"factory": "viewtime.train.streams.captioned:with_captions",
                 "options": options(videos, weights=str(text_weights))},
        "conditioning": {"masking": {"random": 1.0}, "dropout": {"text": 0.5}},
        "schedule": {"warmup_steps": 0},
        "ema": {"lengths": []},
        "stages": [{"name": "small", "lr": 1e-2, "batch_size": 4, "steps": 3},
                   {"name": "large", "lr": 1e-2, "batch_size": 2, "steps": 2, "data": {"resolution": 12, "width": 24}}],
        "output": str(tmp_path / "run"), "device": "cpu",
    }  # fmt: skip
    trainer = Trainer(build(TrainConfig, mapping, "test"))
    trainer.run()
    assert trainer.progress.step == 5
    network = trainer.module.network
    assert network.blocks[0].text_attention.out.weight.abs().max() > 0  # type: ignore[union-attr, index, operator]


def test_a_prompt_reaches_the_grid_by_the_command(videos, text_weights, tmp_path, capsys, monkeypatch):
    """`--text.prompt`: another prompt is another grid, whose file records it; misuse is one line."""
    from viewtime.cli import main
    from viewtime.grid import FrameGrid
    from viewtime.sample import command

    monkeypatch.setattr(command, "ClipText", lambda weights, architecture, device: ClipText(weights, TINY, device))
    torch.manual_seed(0)
    base = {"patch": 4, "width": 32, "depth": 2, "head_dim": 16, "text_width": 32, "frame_size": [8, 12]}
    network = build_denoiser("4real", {"base": base}).network
    stir(network.base)  # type: ignore[union-attr, arg-type]
    record = {"model": {"name": "4real", "config": resolved_config(network)}}
    weights = str(save_weights(tmp_path / "grid.safetensors", network.state_dict(), record))
    video = str(videos / "fox.mp4")
    common = ["sample", "--preset", "sample-4real", "--video", video, "--freeze-video", video, "--device", "cpu",
              "--sampler.steps", "2", "--views", "2", "--frames", "3", "--save", "png"]  # fmt: skip
    grids = []
    for number, text in enumerate((["a fox"], ["a wolf"], ["a fox", "--sampler.guidance", "constant"])):
        out = tmp_path / str(number)
        arguments = ["--weights", weights, "--out", str(out), "--text.weights", str(text_weights), "--text.prompt"]
        assert main([*common, *arguments, *text]) == 0
        grids.append(FrameGrid.load(out / "grid_png"))
    assert grids[0].provenance["prompt"] == "a fox"
    assert (grids[0].frames - grids[1].frames).abs().max() > 0.02
    assert (grids[0].frames - grids[2].frames).abs().max() > 0.02
    capsys.readouterr()
    assert main([*common, "--weights", weights, "--out", str(tmp_path / "x"), "--text.prompt", "a fox"]) == 1
    assert "--text.prompt needs --text.weights" in capsys.readouterr().err
    mini = ["--weights", "mini", "--model", "mini", "--out", str(tmp_path / "x")]
    assert main([*common, *mini, "--text.prompt", "a fox"]) == 1
    assert "mini takes no prompt" in capsys.readouterr().err
