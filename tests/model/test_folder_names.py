"""SVD's diffusers folder as it is published: names of tensors, pieces of them, and the config files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from viewtime.errors import UserError
from viewtime.model.published.diffusers_files import (
    WEIGHT_NAMES,
    assemble,
    folder_configs,
    open_diffusers,
    their_shape,
)
from viewtime.model.published.diffusers_keys import Piece, clip_pieces, diffusers_pieces, vae_name
from viewtime.model.published.identify import identify
from viewtime.model.published.presets import load_model_config
from viewtime.weights import save_weights

# Tensors of stable-video-diffusion-img2vid-xt's three folders, of every kind of module.
PUBLISHED = {
    "unet": """
        conv_in.weight time_embedding.linear_1.weight add_embedding.linear_2.bias conv_norm_out.weight conv_out.bias
        down_blocks.0.resnets.1.spatial_res_block.norm1.weight
        down_blocks.1.resnets.0.spatial_res_block.conv_shortcut.weight
        down_blocks.0.resnets.0.temporal_res_block.time_emb_proj.weight down_blocks.0.resnets.0.time_mixer.mix_factor
        down_blocks.0.downsamplers.0.conv.weight down_blocks.2.downsamplers.0.conv.bias
        down_blocks.3.resnets.1.time_mixer.mix_factor
        down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q.weight
        down_blocks.0.attentions.0.time_mixer.mix_factor
        down_blocks.0.attentions.0.temporal_transformer_blocks.0.ff_in.net.0.proj.weight
        down_blocks.0.attentions.0.time_pos_embed.linear_1.weight mid_block.resnets.1.temporal_res_block.conv2.weight
        mid_block.attentions.0.proj_in.weight up_blocks.0.resnets.2.spatial_res_block.conv1.weight
        up_blocks.1.attentions.2.norm.weight up_blocks.2.upsamplers.0.conv.weight
    """,
    "vae": """
        encoder.conv_in.weight encoder.down_blocks.0.downsamplers.0.conv.weight
        encoder.down_blocks.1.resnets.0.conv_shortcut.bias encoder.mid_block.attentions.0.to_q.weight
        encoder.mid_block.attentions.0.to_out.0.bias encoder.conv_norm_out.weight quant_conv.weight
        decoder.mid_block.resnets.0.spatial_res_block.norm1.weight decoder.mid_block.attentions.0.group_norm.bias
        decoder.up_blocks.0.resnets.2.temporal_res_block.conv1.weight
        decoder.up_blocks.3.resnets.0.time_mixer.mix_factor
        decoder.up_blocks.2.resnets.0.spatial_res_block.conv_shortcut.weight
        decoder.up_blocks.0.upsamplers.0.conv.weight decoder.time_conv_out.weight
    """,
    "image_encoder": """
        vision_model.embeddings.class_embedding vision_model.embeddings.position_embedding.weight
        visual_projection.weight vision_model.pre_layrnorm.bias vision_model.encoder.layers.31.self_attn.v_proj.bias
        vision_model.encoder.layers.0.self_attn.out_proj.weight vision_model.encoder.layers.7.mlp.fc1.weight
        vision_model.encoder.layers.7.layer_norm2.bias vision_model.post_layernorm.weight
    """,
}


def test_published_names_are_there_once_each() -> None:
    pieces = diffusers_pieces(load_model_config("svd-xt"))
    for folder, names in PUBLISHED.items():
        keys = [piece.key for piece in pieces if piece.folder == folder]
        assert len(set(keys)) == len(keys)
        assert set(names.split()) <= set(keys)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("decoder.mid.attn_1.k.weight", "decoder.mid_block.attentions.0.to_k.weight"),
        ("decoder.mid.block_2.conv1.bias", "decoder.mid_block.resnets.1.conv1.bias"),
        ("decoder.up.2.block.1.norm2.weight", "decoder.up_blocks.0.resnets.1.norm2.weight"),
        ("decoder.up.1.upsample.conv.weight", "decoder.up_blocks.1.upsamplers.0.conv.weight"),
        ("encoder.down.1.block.0.nin_shortcut.weight", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight"),
        ("encoder.norm_out.weight", "encoder.conv_norm_out.weight"),
        ("post_quant_conv.bias", "post_quant_conv.bias"),
        ("decoder.conv_out.weight", "decoder.conv_out.weight"),
    ],
)
def test_names_of_a_still_vae(ours: str, theirs: str) -> None:
    """Of three resolutions; blocks upwards are counted from the lowest one."""
    assert vae_name(ours, 3, temporal=False) == theirs


def test_names_of_a_film_vae() -> None:
    names = {
        "decoder.up.2.block.1.mix_factor": "decoder.up_blocks.0.resnets.1.time_mixer.mix_factor",
        "decoder.up.2.block.1.temporal.norm_in.bias": "decoder.up_blocks.0.resnets.1.temporal_res_block.norm1.bias",
        "decoder.up.2.block.1.conv2.bias": "decoder.up_blocks.0.resnets.1.spatial_res_block.conv2.bias",
        "decoder.conv_out.time_mix_conv.bias": "decoder.time_conv_out.bias",
        "encoder.down.0.block.1.conv2.bias": "encoder.down_blocks.0.resnets.1.conv2.bias",
    }
    assert {ours: vae_name(ours, 3, temporal=True) for ours in names} == names


def test_tensors_are_put_together_from_their_pieces() -> None:
    query, key, value = (torch.full((2, 3), float(number)) for number in range(3))
    stacked = assemble({"second third": key, "last third": value, "first third": query})
    assert stacked.tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 2 + [[2.0] * 3] * 2
    turned = torch.arange(6.0).reshape(2, 3)
    assert assemble({"transpose": turned}).tolist() == turned.T.tolist()
    assert assemble({"same": turned}) is turned
    thirds = [piece.change for piece in clip_pieces("visual.transformer.resblocks.3.attn.in_proj_weight")]
    assert thirds == ["first third", "second third", "last third"]


def test_shapes_in_the_folder() -> None:
    attention = Piece("vae", "decoder.mid_block.attentions.0.to_q.weight", "ours")
    assert their_shape(attention, (8, 4, 1, 1)) == (8, 4)
    assert their_shape(attention, (8, 4, 1, 1), (8, 4, 1, 1)) == (8, 4, 1, 1)
    assert their_shape(attention._replace(key="decoder.mid_block.resnets.0.conv1.weight"), (8, 4, 3, 3)) == (8, 4, 3, 3)
    assert their_shape(attention._replace(folder="unet"), (8, 4, 1, 1)) == (8, 4, 1, 1)
    assert their_shape(attention._replace(change="transpose"), (8, 4)) == (4, 8)
    assert their_shape(attention._replace(change="last third"), (9, 4)) == (3, 4)


def test_configs_of_the_published_folder() -> None:
    files = folder_configs(load_model_config("svd-xt"))
    unet, vae, clip = (files[f"{name}/config.json"] for name in ("unet", "vae", "image_encoder"))
    cross, plain = "CrossAttn{}BlockSpatioTemporal", "{}BlockSpatioTemporal"
    assert unet["down_block_types"] == [*[cross.format("Down")] * 3, plain.format("Down")]
    assert unet["up_block_types"] == [plain.format("Up"), *[cross.format("Up")] * 3]
    wanted = {
        "sample_size": 96, "in_channels": 8, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 768, "layers_per_block": 2,
        "cross_attention_dim": 1024, "transformer_layers_per_block": 1, "num_attention_heads": [5, 10, 20, 20],
        "num_frames": 25,
    }  # fmt: skip
    assert {name: unet[name] for name in wanted} == wanted
    wanted = {
        "in_channels": 3, "out_channels": 3, "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "latent_channels": 4, "sample_size": 768, "scaling_factor": 0.18215, "force_upcast": True,
    }  # fmt: skip
    assert {name: vae[name] for name in wanted} == wanted
    assert vae["down_block_types"] == ["DownEncoderBlock2D"] * 4
    wanted = {
        "hidden_size": 1280, "image_size": 224, "intermediate_size": 5120, "num_attention_heads": 16,
        "num_hidden_layers": 32, "patch_size": 14, "projection_dim": 1024, "hidden_act": "gelu",
    }  # fmt: skip
    assert {name: clip[name] for name in wanted} == wanted
    scheduler = files["scheduler/scheduler_config.json"]
    wanted = {
        "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000, "sigma_max": 700.0, "sigma_min": 0.002,
        "steps_offset": 1, "use_karras_sigmas": True, "prediction_type": "v_prediction",
    }  # fmt: skip
    assert {name: scheduler[name] for name in wanted} == wanted


def test_of_two_precisions_the_full_one_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no diffusion_pytorch_model\.safetensors"):
        open_diffusers(tmp_path, "unet")
    (tmp_path / "unet").mkdir()
    base = f"{tmp_path}/unet/{WEIGHT_NAMES['unet']}"
    save_weights(f"{base}.fp16.safetensors", {"w": torch.zeros(2, dtype=torch.float16)}, {})
    assert open_diffusers(tmp_path, "unet").entries["w"].dtype == "F16"
    save_weights(f"{base}.safetensors", {"w": torch.zeros(2)}, {})
    assert open_diffusers(tmp_path, "unet").entries["w"].dtype == "F32"


def test_what_a_folder_is_said_to_hold(tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": "StableVideoDiffusionPipeline"}))
    assert identify(tmp_path).config.name == "svd-xt"
    assert identify(tmp_path, "svd-xt-debug").config.name == "svd-xt-debug"
    with pytest.raises(UserError, match="holds svd-xt, not sv4d"):
        identify(tmp_path, "sv4d")
    index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(UserError, match="diffusers folder of StableDiffusionPipeline"):
        identify(tmp_path)
