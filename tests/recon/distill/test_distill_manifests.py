"""Every tensor of the published guidances at real size, on the meta device."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from distill_golden import manifest

from viewtime.recon.distill.guidance.lora_copy import ADAPTER, LoraCopy
from viewtime.recon.distill.noise import scaled_linear_schedule
from viewtime.recon.distill.published import architectures
from viewtime.recon.distill.published.files import PublishedFile, check_rest
from viewtime.recon.distill.published.ldm_files import (
    SCHEDULE_TABLES,
    build_unet,
    ldm_autoencoder,
    ldm_image_tower,
    ldm_pose_projection,
    ldm_text_tower,
    ldm_unet,
)


def count(shapes):
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def shapes_of(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


class Recorded(PublishedFile):
    """A published file that notes which of its names are asked for."""

    def tensors(self, names, device):
        names = list(names)
        self.read(names)
        return super().tensors(names, device)


def meta_file(shapes):
    """A file of these shapes, and the names that were read from it on the meta device."""
    taken = set()
    return Recorded(Path("published.ckpt"), shapes, taken.update), taken


@pytest.mark.parametrize(
    ("name", "build", "config", "parameters"),
    [
        ("diffusers_sd21_base_unet", UNet2DConditionModel, architectures.STABLE_DIFFUSION_2, 865_910_724),
        ("diffusers_modelscope_zeroscope_unet3d", UNet3DConditionModel, architectures.VIDEO, 1_411_233_860),
        ("diffusers_sd_vae", AutoencoderKL, architectures.AUTOENCODER, 83_653_863),
    ],
)
def test_diffusers_networks(name, build, config, parameters):
    expected = manifest(name)
    with torch.device("meta"):
        assert shapes_of(build(**config)) == expected
    assert count(expected) == parameters


@pytest.mark.parametrize(
    ("name", "config", "views", "parameters"),
    [
        ("mvdream_sd21_4view", architectures.STABLE_DIFFUSION_2, 4, 867_572_164),
        ("zero123", architectures.ZERO123, 0, 859_532_484),
    ],
)
def test_ldm_networks(name, config, views, parameters):
    bare = manifest(f"{name}_unet")
    assert count(bare) == parameters
    file, taken = meta_file({f"model.diffusion_model.{key}": shape for key, shape in bare.items()})
    network = ldm_unet(file, build_unet(config, views), "meta", None)
    assert taken == set(file.shapes)
    assert count(shapes_of(network)) == parameters


def test_the_whole_mvdream_file_is_read_or_known():
    file, taken = meta_file(manifest("mvdream_sd21_4view_full"))
    ldm_unet(file, build_unet(architectures.STABLE_DIFFUSION_2, 4), "meta", None)
    ldm_autoencoder(file, "meta", None)
    ldm_text_tower(file, "meta", None)
    check_rest(file, taken, (SCHEDULE_TABLES, *(rf"cond_stage_model\.model\.{rest}" for rest in (
        r"transformer\.resblocks\.23\.", "text_projection", "logit_scale", "attn_mask",
    ))))  # fmt: skip


def test_the_whole_zero123_file_is_read_or_known():
    shapes = manifest("zero123_full")
    file, taken = meta_file(shapes)
    ldm_unet(file, build_unet(architectures.ZERO123), "meta", None)
    assert {name for name in taken if name.startswith("model")} == {
        name for name in shapes if name.startswith("model_ema.diffusion_model")
    }, "the moving average is what is used"
    ldm_autoencoder(file, "meta", None)
    ldm_pose_projection(file, "meta", None)
    ldm_image_tower(file, "meta", None)
    left = (r"model\.diffusion_model\.", r"model_ema\.(decay|num_updates)", r"cond_stage_model\.model\.(?!visual)")
    check_rest(file, taken, (SCHEDULE_TABLES, *left))


def test_trainables_of_vsd():
    schedule = scaled_linear_schedule()
    with torch.device("meta"):
        copy = LoraCopy(UNet2DConditionModel(**architectures.STABLE_DIFFUSION_2), schedule, "velocity")
    found = {}
    for name, value in copy.state_dict().items():
        for ours, theirs in ((f".lora_A.{ADAPTER}.", "_lora.down."), (f".lora_B.{ADAPTER}.", "_lora.up.")):
            if ours in name:
                layer, _, leaf = name.replace(".to_out.0.", ".to_out.").partition(ours)
                block, _, projection = layer.rpartition(".")
                found[f"{block}.processor.{projection}{theirs}{leaf}"] = tuple(value.shape)
        if name.startswith("class_embedding."):
            found[name.replace("class_embedding.", "camera_embedding.module.")] = tuple(value.shape)
    assert found == manifest("vsd_trainable_sd21")
    assert count(found) == sum(parameter.numel() for parameter in copy.parameters()) == 2_491_392
