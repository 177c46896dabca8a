"""VAE, CLIP preprocessing, embeddings, noise scaling and camera angles against the published code."""

import numpy as np
import torch
from golden_files import arrays, fill, key_shapes, normal

from viewtime.model.conditioners.image_encoder import clip_preprocess
from viewtime.model.conditioners.vector import azimuth_angle, polar_angle
from viewtime.model.denoiser import VScaling
from viewtime.model.published.presets import load_model_config
from viewtime.model.sv4d.embedding import sinusoidal
from viewtime.model.vae.config import VaeConfig
from viewtime.model.vae.decoder import Decoder
from viewtime.model.vae.encoder import FrameEncoder
from viewtime.model.vae.keys import published_name

VAE_TOLERANCE = 1e-5
SIZES = {"channels": 32, "multipliers": (1, 2), "residual_blocks": 1}


def filled(module, shapes):
    return fill(module, {name: published_name(name) for name in module.state_dict()}, shapes)


def test_vae_encoder_golden():
    data = arrays("vae")
    shapes = key_shapes("vae")["autoencoder_kl_mode_only"]
    used = {key: shape for key, shape in shapes.items() if key.startswith(("encoder.", "quant_conv."))}
    encoder = filled(FrameEncoder(VaeConfig(**SIZES)), used)
    assert (encoder.moments(data["image"]) - data["moments"]).abs().max() < VAE_TOLERANCE
    assert (encoder(data["image"]) - data["z_mode"]).abs().max() < VAE_TOLERANCE


def test_vae_image_decoder_golden():
    data = arrays("vae")
    decoder = filled(Decoder(VaeConfig(**SIZES)), key_shapes("vae")["decoder"])
    assert (decoder(data["latent"]) - data["decoded"]).abs().max() < VAE_TOLERANCE


def test_vae_temporal_decoder_golden():
    data = arrays("vae")
    decoder = filled(Decoder(VaeConfig(**SIZES, temporal_decoder=True)), key_shapes("vae")["video_decoder"])
    decoded = decoder(data["latent"], int(data["timesteps"]))
    assert (decoded - data["decoded_video"]).abs().max() < VAE_TOLERANCE


def test_clip_preprocess_golden():
    data = arrays("clip_preprocess")
    size = int(data["size"])
    image = np.clip(np.float32(0.5) * normal("input:clip_pre:image", (1, 3, size, size)), -1, 1)
    assert (clip_preprocess(torch.from_numpy(image)) - data["out"]).abs().max() < 2e-6


def test_sinusoidal_embeddings_golden():
    data = arrays("scalars")
    for dim in (256, 512):
        torch.testing.assert_close(sinusoidal(data["vals"], dim), data[f"emb{dim}"], atol=1e-5, rtol=0)


def test_v_scaling_golden():
    data = arrays("scalars")
    coefficients = torch.stack(VScaling().coefficients(data["scaling_sigma"]))
    torch.testing.assert_close(coefficients, data["scaling_cskip_cout_cin_cnoise"], rtol=2e-6, atol=1e-7)


def test_camera_angles_golden():
    """SV4D's polar angle is absolute, SV4D 2.0's is relative to the input view; rows are frame by frame."""
    data = arrays("scalars")
    cases = {
        "sv4d": ([34.285714, 85.714286, 120, 154.285714, 205.714286, 240, 274.285714, 325.714286], 10.0, 5),
        "sv4d2": ([60, 120, 180, 240], 0.0, 12),
        "sv4d2-8views": ([30, 75, 120, 165, 210, 255, 300, 330], 0.0, 5),
    }
    names = {
        "sv4d": ("sv4d_polars_T5", "sv4d_azims_T5"),
        "sv4d2": ("sv4d2_polars", "sv4d2_azims"),
        "sv4d2-8views": ("sv4d2_8views_polars", "sv4d2_8views_azims"),
    }
    for preset, (azimuths, elevation, frames) in cases.items():
        config = load_model_config(preset)
        azimuth = torch.tensor(azimuths).repeat(frames)
        tilt = torch.full_like(azimuth, elevation)
        polar = polar_angle(config, tilt, torch.tensor(elevation))
        polars, azims = names[preset]
        torch.testing.assert_close(polar, data[polars].float(), atol=1e-6, rtol=0)
        torch.testing.assert_close(azimuth_angle(azimuth, torch.tensor(0.0)), data[azims].float(), atol=1e-5, rtol=0)
