"""SV3D, SV4D and SV4D 2.0 (small, random) from video to grid, and what conditions what."""

from functools import partial

import pytest
import torch
from small_models import ball, published_weights

from viewtime.configs.schema.sample import SamplerOptions
from viewtime.errors import UserError
from viewtime.model import weight_names
from viewtime.model.eight_bits import held_in_eight_bits, hold_in_eight_bits
from viewtime.model.published.identify import file_config
from viewtime.model.published.presets import load_model_config
from viewtime.model.video_model import VideoModel
from viewtime.model.weight_names import SHIPPED, find_weights
from viewtime.sample.first_words import formats
from viewtime.sample.models import loading
from viewtime.sample.pipeline import Pipeline
from viewtime.weights import save_weights

FAST = SamplerOptions(steps=2, sigma_max=20.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {
        "sv4d": published_weights(folder, "sv4d-debug", frames=3),
        "sv4d2": published_weights(folder, "sv4d2-debug"),
        "sv3d": published_weights(folder, "sv3d-u-debug"),
    }


def test_sv4d_with_reference_views_by_sv3d(weights):
    pipe = Pipeline.from_pretrained(weights["sv4d"], device="cpu", reference_weights=weights["sv3d"])
    job = pipe.prepare(ball(5), sampler=FAST)
    assert [window.stage for window in job.plan.windows] == ["reference", "anchor", "dense", "dense"]
    grid = pipe(ball(5), sampler=FAST)
    assert grid.shape == (3, 5, 3, 64, 64)
    assert grid.known[0].all()
    assert not grid.known[1:].any()
    assert torch.isfinite(grid.frames).all()


def test_sv4d_without_reference_views_says_what_it_needs(weights):
    with pytest.raises(UserError, match=r"--reference.weights"):
        Pipeline.from_pretrained(weights["sv4d"], device="cpu").prepare(ball(5))


def test_own_orbit_as_reference_views_is_kept(weights):
    orbit = torch.rand(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    pipe = Pipeline.from_pretrained(weights["sv4d"], device="cpu")
    grid = pipe(ball(4), sampler=FAST, reference_views=orbit)
    white = orbit[:, :3] * orbit[:, 3:] + 1 - orbit[:, 3:]
    assert torch.allclose(grid.frames[1:, 0], white)
    with pytest.raises(UserError, match="2 are needed"):
        pipe.prepare(ball(4), reference_views=orbit[:1])


def test_sv4d2_windows_refer_to_the_frame_before(weights):
    pipe = Pipeline.from_pretrained(weights["sv4d2"], device="cpu")
    grid = pipe(ball(3), sampler=FAST)
    assert grid.shape == (3, 3, 3, 64, 64)


@pytest.mark.parametrize("options", [{"chunk": 1}, {"chunk": 8}, {"offload": True}])
def test_chunks_and_offloading_change_nothing(weights, options):
    plain = Pipeline.from_pretrained(weights["sv4d2"], device="cpu")(ball(3), sampler=FAST)
    other = Pipeline.from_pretrained(weights["sv4d2"], device="cpu", **options)(
        ball(3), sampler=FAST, split_guidance=True, batch_windows=2
    )
    assert (plain.frames - other.frames).abs().max() < 1e-4


def test_weights_in_eight_bits_make_nearly_the_same_grid_and_are_not_saved(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "hold_in_eight_bits", partial(hold_in_eight_bits, smallest=256))
    plain = Pipeline.from_pretrained(weights["sv4d2"], device="cpu")(ball(3), sampler=FAST)
    pipe = Pipeline.from_pretrained(weights["sv4d2"], device="cpu", int8=True, offload=True)
    parts = dict(pipe.model.model.named_children())
    assert {name for name, part in parts.items() if held_in_eight_bits(part)} == {"network", "image_encoder"}
    difference = (pipe(ball(3), sampler=FAST).frames - plain.frames).abs()
    assert 1e-4 < difference.max() < 0.1
    assert formats(pipe.model).startswith("float32 of 8 bits (network, image_encoder), float32 (")
    with pytest.raises(UserError, match="8 bits have lost digits and are not saved"):
        pipe.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_size_is_a_choice_where_the_model_leaves_one(weights):
    grid = Pipeline.from_pretrained(weights["sv3d"], device="cpu")(ball(1), sampler=FAST, size=128)
    assert grid.shape == (3, 1, 3, 128, 128)
    with pytest.raises(UserError, match="multiples of 64"):
        Pipeline.from_pretrained(weights["sv3d"], device="cpu").prepare(ball(1), size=100)


def test_save_pretrained_and_load_again(weights, tmp_path):
    pipe = Pipeline.from_pretrained(weights["sv4d2"], device="cpu")
    again = Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "saved"), device="cpu")
    assert torch.equal(pipe(ball(2), sampler=FAST).frames, again(ball(2), sampler=FAST).frames)


@pytest.mark.parametrize("name", ["sv4d", "SV4D2.0", "stabilityai/sv4d2.0", "hf://stabilityai/sv4d2.0"])
def test_published_names_mean_published_files(name, monkeypatch):
    monkeypatch.setattr(weight_names, "fetch", lambda wanted, offline: (wanted.repo, wanted.file, offline))
    repo = "stabilityai/sv4d" if name == "sv4d" else "stabilityai/sv4d2.0"
    assert find_weights(name, offline=True) == (repo, f"{repo[12:].removesuffix('.0')}.safetensors", True)


def test_missing_weights():
    with pytest.raises(UserError, match=r"no such weights: nothing\.safetensors; give a"):
        find_weights("nothing.safetensors")


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_ships_makes_an_object_in_every_view_and_fits_the_package(name):
    pipe = Pipeline.from_pretrained(name, device="cpu")
    alpha = pipe(ball(2), views=3, sampler=SamplerOptions(steps=1)).frames[:, :, 3]
    assert (alpha > 0.5).float().mean(dim=(-1, -2)).min() > 0.02
    assert find_weights(name).stat().st_size < 16e6


def test_weights_of_another_model(weights):
    with pytest.raises(UserError, match="not sv4d"):
        Pipeline.from_pretrained(weights["sv3d"], model="sv4d", device="cpu")
    with pytest.raises(UserError, match="takes at most 2 at once"):
        Pipeline.from_pretrained(weights["sv4d2"], device="cpu").prepare(ball(3), views=3)


def test_a_model_without_alpha_has_no_alpha_range(weights):
    with pytest.raises(UserError, match="makes no alpha"):
        Pipeline.from_pretrained(weights["sv4d2"], device="cpu").prepare(
            ball(2), sampler=SamplerOptions(alpha_range=(0.3, 0.4))
        )


def test_a_model_that_makes_no_grid(tmp_path):
    config = load_model_config("svd-xt-debug")
    svd = save_weights(tmp_path / "svd.safetensors", VideoModel(config).state_dict(), file_config(config))
    with pytest.raises(UserError, match="makes a video out of one image, not a grid of views; give SV3D or SV4D"):
        Pipeline.from_pretrained(svd, device="cpu")
