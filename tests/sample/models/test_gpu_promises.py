"""What the GPU's user is promised, by values on the CPU: frames encoded once, full chunks, devices, compilation."""

import pytest
import torch
from small_models import ball, mini_weights, published_weights

from viewtime.configs.schema.encode import EncodeConfig
from viewtime.configs.schema.evaluate import EvaluateConfig
from viewtime.configs.schema.sample import SamplerOptions
from viewtime.data.stored import spread
from viewtime.device import choose_device
from viewtime.model.conditioners.conditioner import Conditioner
from viewtime.model.vae.codec import FrameCodec
from viewtime.sample.metrics import command as evaluate_command
from viewtime.sample.pipeline import Pipeline

FAST = SamplerOptions(steps=2, sigma_max=20.0)


def test_a_windows_frames_are_encoded_once_for_both_directions(tmp_path, monkeypatch):
    """SV4D's dense windows see their frames forwards and backwards; each window encodes them a single time."""
    pipe = Pipeline.from_pretrained(published_weights(tmp_path, "sv4d-debug", frames=3), device="cpu")
    orbit = torch.rand(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    encoded, whole = [], Conditioner.encode

    def encode(self, frames, seed=0):
        encoded.append(frames)
        return whole(self, frames, seed)

    monkeypatch.setattr(Conditioner, "encode", encode)
    job = pipe.prepare(ball(5), reference_views=orbit)
    grid = pipe(ball(5), sampler=FAST, reference_views=orbit)
    assert sum(len(window.directions) for window in job.plan.windows) > len(job.plan.windows)
    assert len(encoded) == len(job.plan.windows)
    again = [whole(pipe.model.model.conditioner(8), frames) for frames in encoded]
    assert all(torch.isfinite(one.latents).all() for one in again)

    def backwards_too(self, request, conditioner):
        pixels = self._pixels(request, [(0, frame) for frame in request.frames])[None]
        return whole(conditioner, pixels)

    monkeypatch.setattr("viewtime.sample.models.video_grid_model.VideoGridModel._frames", backwards_too)
    torch.testing.assert_close(
        pipe(ball(5), sampler=FAST, reference_views=orbit).frames, grid.frames, atol=1e-3, rtol=0
    )


def test_the_decoder_gets_full_chunks_whatever_the_grids_shape(tmp_path, monkeypatch):
    """2 views × 5 frames by 4: two chunks of 4 and one of 2, not 4 and 1 for each view; and the same pictures."""
    pipe = Pipeline.from_pretrained(published_weights(tmp_path, "sv4d2-debug"), device="cpu")
    codec = pipe.model.model.codec(4)
    assert isinstance(codec, FrameCodec)
    sizes, decoder = [], codec.decoder

    def decode(part):
        sizes.append(len(part))
        return decoder(part)

    monkeypatch.setattr(codec, "decoder", decode)
    latents = torch.randn(1, 2, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = codec.decode(latents)
        one_by_one = torch.stack([decoder(latents[0, v, f][None])[0] for v in range(2) for f in range(5)])
    assert sizes == [4, 4, 2]
    torch.testing.assert_close(made.flatten(0, 2), one_by_one, atol=1e-5, rtol=1e-4)


def test_cuda_is_taken_where_there_is_one_by_every_command(monkeypatch):
    """evaluate and encode ask as sample does; nothing is loaded here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(None) == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
    assert EvaluateConfig().device is None
    assert EncodeConfig.__dataclass_fields__["device"].default is None
    asked = []
    monkeypatch.setattr(evaluate_command, "ClipSimilarity", lambda *facts: asked.append(facts[2]))
    monkeypatch.setattr(evaluate_command, "Lpips", lambda *facts: asked.append(facts[1]))
    evaluate_command.build_metrics(EvaluateConfig(metrics=["lpips", "clip_s"]))
    monkeypatch.setattr(evaluate_command, "clip_score_summary", lambda *_: None)
    monkeypatch.setattr(evaluate_command, "_write", lambda *_: [])
    evaluate_command._clip_score(EvaluateConfig(), [], None)
    assert asked == ["cuda", "cuda", "cuda"]
    assert spread.choose_device is choose_device


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_grid(tmp_path):
    file = mini_weights(tmp_path)
    plain, compiled = (Pipeline.from_pretrained(file, device="cpu", compile=on) for on in (False, True))
    assert compiled.model.denoiser.network._compiled_call_impl is not None
    assert plain.model.denoiser.network._compiled_call_impl is None
    grids = [pipe(ball(2), views=3, sampler=SamplerOptions(steps=2)).frames for pipe in (plain, compiled)]
    torch.testing.assert_close(*grids, atol=1e-4, rtol=0)


def test_compile_reaches_the_network(tmp_path, monkeypatch):
    """--compile: the network and it alone, for fixed shapes."""
    calls = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: calls.append((type(self).__name__, options))
    )
    Pipeline.from_pretrained(mini_weights(tmp_path), device="cpu", compile=True)
    Pipeline.from_pretrained(published_weights(tmp_path, "sv4d2-debug"), device="cpu", compile=True)
    assert calls == [("MiniNetwork", {"dynamic": False}), ("VideoUNet", {"dynamic": False})]
