"""MVDream and zero123 out of the folders that people have put on the hub, at a small size."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from golden_parts import blank, unet2d
from safetensors.torch import load_file, save_file
from test_published_weights import SMALL, TINY_UNET, folder, prediction

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.recon.distill.guidance.multi_view import add_camera_embedding, join_views
from viewtime.recon.distill.guidance.zero123 import clip_pixels
from viewtime.recon.distill.published import community
from viewtime.recon.distill.published.ldm_names import unet_names
from viewtime.recon.distill.published.open import open_guidance

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def network(monkeypatch):
    """A small MVDream with random cameras, and the published size replaced by its own."""
    monkeypatch.setattr(community, "STABLE_DIFFUSION_2", TINY_UNET)
    made = unet2d("sd").float()
    torch.manual_seed(0)
    add_camera_embedding(made)
    join_views(made, 4)
    return made.eval().requires_grad_(False)


def original_names(path, network):
    """ashawkey's layout: the original class, its names, no prefix."""
    folder(path, unet2d("sd"))
    state = network.state_dict()
    tensors = {ldm: state[ours].clone() for ldm, ours in unet_names(network.config, state).items()}
    save_file(tensors, path / "unet" / WEIGHTS)
    (path / "unet" / "config.json").write_text(json.dumps({"_class_name": "MultiViewUNetModel", "camera_dim": 16}))
    return path


def beside(path, network):
    """lzq49's layout: diffusers' names, the camera embedding in a folder of its own."""
    folder(path, unet2d("sd"))
    (path / "camera_proj").mkdir()
    save_file(
        {name: value.clone() for name, value in network.class_embedding.state_dict().items()},
        path / "camera_proj" / WEIGHTS,
    )
    return path


@pytest.mark.parametrize("layout", [original_names, beside])
def test_both_layouts_of_mvdream(tmp_path, network, layout):
    found = open_guidance("mvdream", layout(tmp_path, network), "cpu", options=SMALL)
    loaded = found.network
    assert found.traits.views == 4
    assert found.traits.schedule.final_alpha_bar == found.traits.schedule.alpha_bar[0].item()
    answer = prediction(found, V=4)
    found.network = network
    torch.testing.assert_close(answer, prediction(found, V=4), rtol=0, atol=0)
    found.network = loaded.requires_grad_(True)
    loaded.class_embedding.linear_2.weight.data += 1
    assert not torch.allclose(answer, prediction(found, V=4)), "the camera reaches the network"


def test_what_is_no_mvdream(tmp_path, network):
    with pytest.raises(UserError, match="a Stable Diffusion without cameras; give ashawkey/mvdream-sd2"):
        open_guidance("mvdream", folder(tmp_path / "sd", unet2d("sd")), "cpu")
    path = original_names(tmp_path / "imagedream", network)
    tensors = load_file(path / "unet" / WEIGHTS)
    save_file({**tensors, "image_embed.proj_in.weight": torch.zeros(2, 2)}, path / "unet" / WEIGHTS)
    with pytest.raises(UserError, match=r"1 unexpected \(image_embed\.proj_in\.weight\)"):
        open_guidance("mvdream", path, "cpu")


def zero123_folder(path, name="clip_camera_projection", prefix="proj"):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(1)
    folder(path, UNet2DConditionModel(**{**TINY_UNET, "in_channels": 8}))
    tower = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=16, projection_dim=24,
            patch_size=56, image_size=224,
        )
    )  # fmt: skip
    tower.eval().save_pretrained(path / "image_encoder")
    (path / name).mkdir()
    projection = {f"{prefix}.weight": torch.randn(24, 28), f"{prefix}.bias": torch.randn(24)}
    save_file(projection, path / name / WEIGHTS)
    return tower, projection[f"{prefix}.weight"], projection[f"{prefix}.bias"]


@pytest.mark.parametrize("layout", [("clip_camera_projection", "proj"), ("cc_projection", "projection")])
def test_both_layouts_of_zero123(tmp_path, layout):
    tower, weight, bias = zero123_folder(tmp_path, *layout)
    found = open_guidance("zero123-xl", tmp_path, "cpu", options=SMALL)
    picture = torch.rand(4, 16, 16)
    prompt = found.reference(picture, 5.0, 0.0, 3.8)
    white = 2 * (picture[:3] * picture[3:] + 1 - picture[3:])[None] - 1
    with torch.no_grad():
        embedding = tower(clip_pixels(white)).image_embeds
        torch.testing.assert_close(prompt.embedding, embedding[0], rtol=1e-4, atol=1e-5)
        still = torch.zeros(1)
        conditional, unconditional = found.branches(prompt, still + 5, still, still + 3.8)
        pose = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
        tokens = torch.cat([embedding, pose], dim=1) @ weight.T + bias
        torch.testing.assert_close(conditional.tokens.flatten(), tokens[0], rtol=1e-4, atol=1e-5)
    assert unconditional.tokens.abs().max() == 0
    noisy, timesteps = torch.randn(1, 1, 1, 4, 8, 8), torch.full((1, 1, 1), 300)
    turned = (Cameras(still[None], still[None] + 90, still[None] + 3.8),)
    answers = [found.predict(noisy, timesteps, cameras, prompt) for cameras in (blank(1, 1, 1).cameras, turned)]
    assert not torch.allclose(answers[0].conditional, answers[1].conditional), "the pose reaches the network"
    torch.testing.assert_close(answers[0].unconditional, answers[1].unconditional)


def test_zero123s_moving_average_comes_first(tmp_path):
    zero123_folder(tmp_path)
    state = load_file(tmp_path / "unet" / WEIGHTS)
    averaged = {name: (value + 1).half() for name, value in state.items()}
    save_file(averaged, tmp_path / "unet" / "diffusion_pytorch_model.fp16_ema.safetensors")
    found = open_guidance("zero123-xl", tmp_path, "cpu", options=SMALL).network
    torch.testing.assert_close(found.conv_in.bias, state["conv_in.bias"] + 1, rtol=1e-3, atol=1e-3)


def test_what_is_no_zero123(tmp_path):
    sd = folder(tmp_path / "sd", unet2d("sd"))
    with pytest.raises(UserError, match="has no clip_camera_projection or cc_projection: it is no zero123 folder"):
        open_guidance("zero123", sd, "cpu")
    zero123_folder(tmp_path / "wrong")
    unet2d("sd").float().save_pretrained(tmp_path / "wrong" / "unet")
    with pytest.raises(UserError, match="is no zero123: its network has 4 channels in and 4 out"):
        open_guidance("zero123", tmp_path / "wrong", "cpu")
    zero123_folder(tmp_path / "tower")
    (tmp_path / "tower" / "image_encoder" / "config.json").write_text('{"hidden_act": "quick_gelu"}')
    with pytest.raises(UserError, match=r"is no CLIP image tower: its config\.json must have image_size"):
        open_guidance("zero123", tmp_path / "tower", "cpu")
