"""Chunks of frames, the two decoders, diffusers' autoencoders as drop-ins."""

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.published.presets import load_model_config
from viewtime.model.vae.diffusers_codec import DiffusersCodec, load_diffusers_codec
from viewtime.model.video_model import VideoModel


def codec(preset, chunk):
    torch.manual_seed(0)
    model = VideoModel(load_model_config(f"{preset}-debug"), parts=("frame_encoder", "decoder"))
    return model.requires_grad_(False).codec(chunk)


def frames():
    return torch.rand(1, 2, 3, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_chunks_change_nothing_frame_by_frame():
    whole, chunked = codec("sv4d", 6), codec("sv4d", 2)
    latents = whole.encode(frames())
    assert latents.shape == (1, 2, 3, 4, 2, 3)
    torch.testing.assert_close(chunked.encode(frames()), latents)
    torch.testing.assert_close(chunked.decode(latents), whole.decode(latents))
    assert whole.decode(latents).shape == frames().shape


def test_temporal_decoder_sees_its_chunk_and_nothing_else():
    whole, chunked = codec("svd-xt", 3), codec("svd-xt", 1)
    latents = whole.encode(frames())
    assert (whole.decode(latents) - chunked.decode(latents)).abs().max() > 1e-4
    alone = whole.decode(latents[:, 1:])
    torch.testing.assert_close(whole.decode(latents)[:, 1:], alone, msg="views must not mix")


def test_a_size_that_the_vae_cannot_halve_is_refused():
    with pytest.raises(UserError, match="frames are 16×20 pixels; height and width must be multiples of 8"):
        codec("sv4d", 2).encode(frames()[..., :20])


def diffusers_autoencoders():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    temporal = diffusers.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32), layers_per_block=1
    )
    widths = (8, 8, 8, 8)
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    return temporal.eval().requires_grad_(False), tiny.eval().requires_grad_(False)


def test_diffusers_drop_ins(tmp_path):
    temporal, tiny = diffusers_autoencoders()
    for autoencoder, kind, downscale in ((temporal, "temporal", 2), (tiny, "tiny", 8)):
        autoencoder.save_pretrained(tmp_path / kind)
        drop_in = load_diffusers_codec(tmp_path / kind, kind)
        assert drop_in.downscale == downscale
        latents = drop_in.encode(frames())
        assert latents.shape == (1, 2, 3, 4, 16 // downscale, 24 // downscale)
        assert drop_in.decode(latents).shape == frames().shape
        first = frames()[0, 1]
        if kind == "tiny":
            torch.testing.assert_close(latents[0, 1] * 0.18215, autoencoder.encode(first).latents)
            expected = autoencoder.decode(latents[0, 1] * 0.18215).sample
        else:
            torch.testing.assert_close(latents[0, 1], autoencoder.encode(first).latent_dist.mode())
            expected = autoencoder.decode(latents[0, 1], num_frames=3).sample
        torch.testing.assert_close(drop_in.decode(latents)[0, 1], expected)


def test_other_autoencoders_are_refused(tmp_path):
    with pytest.raises(UserError, match="Linear does not fit"):
        DiffusersCodec(torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"it has no config\.json"):
        load_diffusers_codec(tmp_path, "tiny")
