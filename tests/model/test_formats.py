"""One model in three file formats: loading, exporting, describing."""

import json
import shutil
import time

import pytest
import torch
from PIL import Image
from published_files import write_published

from viewtime.errors import UserError
from viewtime.model.export_command import export_weights
from viewtime.model.published.info import describe_file
from viewtime.model.published.published_keys import is_unused, used_names
from viewtime.model.video_model import load_video_model
from viewtime.weight_header import open_weights
from viewtime.weights import read_bytes, save_weights

PRESETS = ("sv4d", "sv4d2", "sv4d2-8views", "sv3d-u", "sv3d-p", "svd-xt")


def raw(path):
    return {key: (entry.dtype, entry.shape, read_bytes(entry)) for key, entry in open_weights(path).entries.items()}


def same_tensors(first, second):
    left, right = first.state_dict(), second.state_dict()
    assert set(left) == set(right)
    for name, tensor in right.items():
        assert torch.equal(left[name], tensor), name


@pytest.mark.parametrize("preset", PRESETS)
def test_a_published_file_loads_under_our_names(tmp_path, preset):
    path, tensors, config = write_published(tmp_path, preset)
    model = load_video_model(path, dtype=torch.bfloat16)
    loaded = model.state_dict()
    assert set(loaded) == set(used_names(config))
    for name, (published, _) in used_names(config).items():
        assert torch.equal(loaded[name], tensors[published].to(torch.bfloat16))
    expected = {"sv4d2": "raster"}.get(preset, "pixel")
    assert model.config.network.view_attention == expected


def test_the_papers_attention_is_a_switch_and_the_presets_default(tmp_path):
    path, _, config = write_published(tmp_path, "sv4d2")
    assert config.network.view_attention == "joint"
    assert load_video_model(path, view_attention="joint").config.network.view_attention == "joint"


def test_only_the_wanted_parts_are_loaded(tmp_path):
    path, tensors, _ = write_published(tmp_path, "svd-xt")
    model = load_video_model(path, parts=("decoder",))
    assert torch.equal(model.decoder.conv_in.weight, tensors["first_stage_model.decoder.conv_in.weight"])
    assert all(name.startswith("decoder.") for name in model.state_dict())
    with pytest.raises(UserError, match="without its part image_encoder"):
        model.conditioner()


def test_unused_tensors_may_be_absent_but_no_used_one(tmp_path):
    unused = "conditioner.embedders.0.open_clip.model.logit_scale"
    used = "model.diffusion_model.out.2.bias"
    load_video_model(write_published(tmp_path, "sv4d", leave_out=(unused,), name="a")[0])
    with pytest.raises(UserError, match=r"1 missing \(network\.conv_out\.bias\)"):
        load_video_model(write_published(tmp_path, "sv4d", leave_out=(used,), name="b")[0])


@pytest.mark.parametrize("preset", PRESETS)
def test_stability_to_viewtime_and_back_keeps_every_byte(tmp_path, preset):
    path, _, config = write_published(tmp_path, preset, dtype=torch.float16)
    own = export_weights(path, "viewtime", tmp_path / "own.safetensors")
    back = export_weights(own, "stability", tmp_path / "back.safetensors")
    assert raw(back) == raw(path)
    names, entries = used_names(config), raw(own)
    assert {key for key in entries if not key.startswith("unused.")} == set(names)
    ours, theirs = load_video_model(own), load_video_model(path)
    assert ours.config == theirs.config
    same_tensors(ours, theirs)


def test_svd_to_diffusers_and_back_keeps_every_byte(tmp_path):
    path, _, _ = write_published(tmp_path, "svd-xt")
    own = export_weights(path, "viewtime", tmp_path / "own.safetensors")
    folder = export_weights(own, "diffusers", tmp_path / "folder")
    scaled = json.loads((folder / "feature_extractor" / "preprocessor_config.json").read_text())["resample"]
    assert Image.Resampling(scaled) is Image.Resampling.BICUBIC
    back = export_weights(folder, "stability", tmp_path / "back.safetensors", preset="svd-xt-debug")
    used = {key: value for key, value in raw(path).items() if not is_unused(key)}
    assert raw(back) == used
    direct, through = load_video_model(path), load_video_model(folder, "svd-xt-debug")
    same_tensors(through, direct)


def test_diffusers_loads_the_folder_and_computes_the_same(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    path, _, config = write_published(tmp_path, "svd-xt")
    folder = export_weights(path, "diffusers", tmp_path / "folder")
    model = load_video_model(path).eval().requires_grad_(False)
    torch.manual_seed(0)
    x, concat = torch.randn(1, 1, 3, 4, 8, 8), torch.randn(1, 1, 1, 4, 8, 8)
    tokens = torch.randn(1, 1, 1, 32)
    numbers = torch.tensor([6.0, 127.0, 0.02])
    cond = {"concat": concat, "image_tokens": tokens, "vector": model_vector(config, numbers)}
    ours = model.network(x, torch.full((1, 1, 3), 0.3), cond)
    unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
    both = torch.cat([x, concat.expand(-1, -1, 3, -1, -1, -1)], dim=3)[:, 0]
    theirs = unet(both, torch.tensor([0.3]), tokens[:, 0], numbers[None]).sample
    assert (ours[:, 0] - theirs).abs().max() < 2e-4

    vae = diffusers.AutoencoderKLTemporalDecoder.from_pretrained(folder / "vae", use_safetensors=True)
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    mode = vae.encode(frames).latent_dist.mode()
    assert (model.frame_encoder(frames) - mode).abs().max() < 1e-5
    assert (model.decoder(mode, 2) - vae.decode(mode, num_frames=2).sample).abs().max() < 1e-4

    tower = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    pixels = torch.randn(2, 3, 56, 56)
    assert (model.image_encoder.visual(pixels) - tower(pixels).image_embeds).abs().max() < 1e-5


def model_vector(config, numbers):
    from viewtime.model.conditioners.vector import embed_vector

    values = {part.name: number for part, number in zip(config.vector, numbers)}
    return embed_vector(config, values)[None, None, None]


def test_diffusers_has_no_sv4d(tmp_path):
    path, _, _ = write_published(tmp_path, "sv4d")
    with pytest.raises(UserError, match="diffusers has no pipeline for sv4d"):
        export_weights(path, "diffusers", tmp_path / "folder")


@pytest.mark.parametrize("preset", PRESETS)
def test_info_names_the_model_and_counts_its_parts(tmp_path, preset):
    path, tensors, config = write_published(tmp_path, preset, dtype=torch.bfloat16)
    text = describe_file(path)
    assert config.name in text.splitlines()[0]
    assert "stability" in text
    network = sum(t.numel() for key, t in tensors.items() if key.startswith("model.diffusion_model."))
    assert f"{network:,}" in text
    assert f"{sum(t.numel() for t in tensors.values()):,}" in text
    assert "BF16" in text


def test_info_describes_other_weight_files_too(tmp_path):
    path = save_weights(tmp_path / "x.safetensors", {"a.b": torch.zeros(3), "c": torch.zeros(2)}, {})
    text = describe_file(path)
    assert "none of SVD, SV3D, SV4D" in text
    assert "5" in text


def test_another_models_file_gives_one_line(tmp_path):
    path, _, _ = write_published(tmp_path, "sv3d-p")
    other = save_weights(tmp_path / "other.safetensors", {"encoder.weight": torch.zeros(3)}, {})
    for file, preset, message in (
        (path, "sv4d", "holds sv3d-p-debug, not sv4d"),
        (other, "sv4d", "holds none of SVD, SV3D, SV4D"),
    ):
        started = time.monotonic()
        with pytest.raises(UserError, match=message) as error:
            load_video_model(file, preset)
        assert "\n" not in str(error.value)
        assert time.monotonic() - started < 30


def test_a_diffusers_folder_without_safetensors_is_refused(tmp_path):
    path, _, _ = write_published(tmp_path, "svd-xt")
    folder = export_weights(path, "diffusers", tmp_path / "folder")
    shutil.move(
        folder / "unet" / "diffusion_pytorch_model.safetensors", folder / "unet" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(UserError, match=r"has no diffusion_pytorch_model\.safetensors"):
        load_video_model(folder, "svd-xt-debug")
