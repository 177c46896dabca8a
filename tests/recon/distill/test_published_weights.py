"""Published files and folders at a small size: what loads, what is refused, in which words."""

import json
import logging
import os

import pytest
import torch
from diffusers import DDIMScheduler
from distill_golden import fill
from golden_parts import GivenText, blank, unet2d, unet3d, vae
from safetensors.torch import save_file

from viewtime.errors import UserError
from viewtime.model.four_real.text import build_text_tower
from viewtime.recon.distill.guidance.prompts import ViewWords, encode_prompt, read_prompt
from viewtime.recon.distill.published import ldm_files
from viewtime.recon.distill.published import open as opening
from viewtime.recon.distill.published.files import open_published
from viewtime.recon.distill.published.ldm_names import EMA_PREFIX, UNET_PREFIX, VAE_PREFIX, ema_name, unet_names
from viewtime.recon.distill.published.lora_files import add_lora_file
from viewtime.recon.distill.published.open import GuidanceOptions, open_copy, open_guidance
from viewtime.recon.distill.published.pickles import read_pickle
from viewtime.recon.distill.published.text_encoders import open_text_encoder

SMALL = GuidanceOptions(size=(16, 16))
TINY_UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
    "use_linear_projection": True,
}
TINY_VAE = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.18215,
}
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def folder(path, network, prediction="epsilon", safe=True):
    """A diffusers folder of small parts."""
    network.float().save_pretrained(path / "unet", safe_serialization=safe)
    vae().float().save_pretrained(path / "vae", safe_serialization=safe)
    DDIMScheduler(**SCHEDULER, prediction_type=prediction, set_alpha_to_one=False).save_pretrained(path / "scheduler")
    return path


def prediction(guidance, B=1, V=1, F=1):
    torch.manual_seed(0)
    noisy = torch.randn(B, V, F, 4, 8, 8)
    timesteps = torch.full((B, V, F), 450)
    text = torch.randn(2, 7, 24)
    return guidance.predict(noisy, timesteps, blank(B, V, F).cameras, GivenText(text[:1], text[1:])).conditional


def test_a_diffusers_folder_gives_its_own_predictions(tmp_path):
    network = unet2d("sd")
    found = open_guidance("sd-2.1-base", folder(tmp_path, network), "cpu", options=SMALL)
    assert found.traits.latent == (4, 8, 8)
    assert found.traits.schedule.final_alpha_bar == found.traits.schedule.alpha_bar[0].item()
    before = found.network
    found.network = network
    expected = prediction(found)
    found.network = before
    torch.testing.assert_close(prediction(found), expected)
    assert not any(parameter.requires_grad for parameter in before.parameters())


def test_velocity_and_pickled_folders(tmp_path):
    found = open_guidance("sd-2.1", folder(tmp_path, unet2d("sd"), "v_prediction", safe=False), "cpu", options=SMALL)
    assert (tmp_path / "unet" / "diffusion_pytorch_model.bin").is_file()
    assert found.predicts == "velocity"
    copy = open_copy(tmp_path, "cpu")
    assert copy.predicts == "velocity"


def test_videos_and_images_are_told_apart(tmp_path):
    video = folder(tmp_path / "video", unet3d())
    assert prediction(open_guidance("zeroscope", video, "cpu", options=SMALL), F=3).shape == (1, 1, 3, 4, 8, 8)
    with pytest.raises(UserError, match="holds a network for videos; one for images"):
        open_guidance("sd-2.1-base", video, "cpu")
    with pytest.raises(UserError, match="holds a network for images; one for videos"):
        open_guidance("modelscope", folder(tmp_path / "image", unet2d("sd")), "cpu")


def ldm_tensors(network, autoencoder):
    """What a single file of these parts holds."""
    named = {UNET_PREFIX + theirs: network.state_dict()[ours] for theirs, ours in ldm_name_pairs(network)}
    names = ldm_files.vae_names(VAE_NAMES, 2)
    state = autoencoder.state_dict()
    named |= {VAE_PREFIX + theirs: state[ours] for theirs, ours in names.items() if ours in state}
    assert len(named) == len(network.state_dict()) + len(state)
    return {name: tensor.float().contiguous() for name, tensor in named.items()} | {"betas": torch.zeros(1000)}


def ldm_name_pairs(network):
    return unet_names(network.config, network.state_dict()).items()


def vae_candidates():
    """All LDM names of a VAE of two levels with one block each."""
    parts = [f"{half}.{place}.{leaf}" for half in ("encoder", "decoder") for place in (
        "conv_in", "conv_out", "norm_out", "mid.attn_1.norm", "mid.attn_1.q", "mid.attn_1.k", "mid.attn_1.v",
        "mid.attn_1.proj_out",
        *(f"mid.{b}.{c}" for b in ("block_1", "block_2") for c in ("norm1", "conv1", "norm2", "conv2")),
        *(f"{d}.{n}.block.{b}.{c}" for d in ("down", "up") for n in (0, 1) for b in (0, 1)
          for c in ("norm1", "conv1", "norm2", "conv2", "nin_shortcut")),
        "down.0.downsample.conv", "up.1.upsample.conv",
    ) for leaf in ("weight", "bias")]  # fmt: skip
    return [*parts, *(f"{name}.{leaf}" for name in ("quant_conv", "post_quant_conv") for leaf in ("weight", "bias"))]


VAE_NAMES = vae_candidates()


@pytest.fixture
def tiny(monkeypatch):
    """The published sizes replaced by small ones."""
    monkeypatch.setattr(opening, "STABLE_DIFFUSION_2", TINY_UNET)
    monkeypatch.setattr(ldm_files, "AUTOENCODER", TINY_VAE)


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_a_single_file_gives_the_same_network(tmp_path, tiny, ending):
    network, autoencoder = unet2d("sd"), vae()
    tensors = ldm_tensors(network, autoencoder)
    path = tmp_path / f"model.{ending}"
    if ending == "ckpt":
        torch.save({"state_dict": tensors, "global_step": 3}, path)
    else:
        save_file(tensors, path)
    found = open_guidance("sd-2.1-base", path, "cpu", options=SMALL)
    for ours, theirs in ((found.network, network), (found.codec.autoencoder, autoencoder)):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[name].float()) for name, value in ours.state_dict().items())


def test_the_moving_average_is_used_where_there_is_one(tmp_path, tiny):
    network = unet2d("sd")
    tensors = ldm_tensors(network, vae())
    average = {ema_name(theirs): network.state_dict()[ours].float() + 1 for theirs, ours in ldm_name_pairs(network)}
    torch.save({**tensors, **average, f"{EMA_PREFIX}decay": torch.tensor(0.9)}, tmp_path / "model.pt")
    found = open_guidance("sd-2.1-base", tmp_path / "model.pt", "cpu", options=SMALL).network
    torch.testing.assert_close(found.conv_in.weight, network.conv_in.weight.float() + 1)


class Code:
    def __reduce__(self):
        return os.system, ("touch stolen",)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "callbacks": Code()}, "evil.ckpt")
    with pytest.raises(UserError, match=r"names (posix|nt)\.system, which could run code; it was not opened"):
        open_published("evil.ckpt")
    assert not (tmp_path / "stolen").exists()


def test_what_trainers_leave_in_a_checkpoint_is_inert(tmp_path, monkeypatch):
    import sys
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback
    instance = callback()
    instance.best = 3.0
    torch.save(
        {"state_dict": {"a": torch.ones(2)}, "callbacks": {callback: {"x": 1}, "y": instance}}, tmp_path / "a.ckpt"
    )
    monkeypatch.undo()
    assert torch.equal(read_pickle(tmp_path / "a.ckpt")["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("mvdream", None, "there is nothing at .* for mvdream; download sd-v2.1-base-4view.pt of"),
        ("sd-3", None, "no guidance is called 'sd-3'; one of sd-2.1-base"),
        ("zeroscope", b"x", "is a file; zeroscope is read from a diffusers folder"),
        ("sd-2.1-base", b"not a checkpoint", "is no checkpoint of torch|holds more than tensors"),
    ],
)
def test_what_is_not_there_or_not_weights(tmp_path, name, write, message):
    path = tmp_path / "weights.ckpt"
    if write is not None:
        path.write_bytes(write)
    with pytest.raises(UserError, match=message) as error:
        open_guidance(name, path, "cpu")
    assert "\n" not in str(error.value)


def test_another_models_weights(tmp_path, tiny):
    save_file(ldm_tensors(unet2d("sd"), vae()), tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match=r"4 missing \(camera_embed"):
        open_guidance("mvdream", tmp_path / "sd.safetensors", "cpu")
    with pytest.raises(UserError, match=r"is no zero123 checkpoint: it has no cc_projection\.weight"):
        open_guidance("zero123", tmp_path / "sd.safetensors", "cpu")
    cut = ldm_tensors(unet2d("sd"), vae())
    cut = {name: value for name, value in cut.items() if "middle_block" not in name}
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match=r"missing .middle_block"):
        open_guidance("sd-2.1-base", tmp_path / "cut.safetensors", "cpu")


@pytest.mark.parametrize("form", ["processor", "peft"])
def test_a_dreambooth_lora_is_added_to_the_weights(tmp_path, form):
    network = unet2d("sd")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1"
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    names = {
        "processor": [f"unet.{layer}.processor.to_out_lora.{half}.weight" for half in ("down", "up")],
        "peft": [f"unet.{layer}.to_out.0.lora_{half}.weight" for half in "AB"],
    }[form]
    save_file(dict(zip(names, (down, up))), tmp_path / "pytorch_lora_weights.safetensors")
    assert add_lora_file(network, tmp_path, scale=0.5) == 1
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == [f"{layer}.to_out.0.weight"]
    expected = before[changed[0]] + (0.5 * up @ down).double()
    torch.testing.assert_close(network.state_dict()[changed[0]], expected)
    save_file({"unet.nowhere.attn1.to_q.lora_A.weight": down}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(UserError, match=r"unexpected .nowhere"):
        add_lora_file(network, tmp_path)


def clip_folder(path):
    """A small CLIP text tower with a tokenizer of single letters."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab").mkdir(parents=True)
    vocabulary, merges = path / "vocab" / "vocab.json", path / "vocab" / "merges.txt"
    vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), pad_token="!")
    tokenizer.save_pretrained(path / "tokenizer")
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": 0}
    CLIPTextModel(CLIPTextConfig(vocab_size=len(words), **sizes, **ends)).save_pretrained(path / "text_encoder")
    return path


def test_prompts_are_embedded_by_a_folders_encoder_and_kept(tmp_path, caplog, monkeypatch):
    encoder = open_text_encoder(clip_folder(tmp_path), "cpu")
    prompt = encode_prompt(encoder, "a cat", "bad", ViewWords(front=30.0))
    assert prompt.plain.shape == (77, 24)
    assert prompt.directions.shape == (4, 77, 24)
    front = encoder(["a cat, front view"])[0]
    torch.testing.assert_close(prompt.conditional(torch.zeros(1), torch.zeros(1))[0], front)
    kept = read_prompt(prompt.save(tmp_path / "prompt.safetensors"))
    assert (kept.text, kept.negative, kept.words) == ("a cat", "bad", ViewWords(front=30.0))
    assert torch.equal(kept.directions, prompt.directions)
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    encode_prompt(encoder, "a " * 80 + "zebra", "bad")
    assert "has 87 tokens and 77 fit; lost: “a a a a a zebra”" in caplog.text
    said = {record.getMessage() for record in caplog.records}
    assert len(said) == 1, "of the prompt alone, although it is too long in each direction as well"
    with pytest.raises(UserError, match="the prompt is empty"):
        encode_prompt(encoder, "  ")


def test_the_text_tower_of_a_single_file(tmp_path, monkeypatch, caplog):
    small = {"width": 24, "heads": 2, "layers": 1}
    monkeypatch.setattr(ldm_files, "OPEN_CLIP_TEXT", small)
    tower = fill(build_text_tower(small), "text").float()
    save_file(
        {f"{ldm_files.TEXT_PREFIX}{name}": value.clone() for name, value in tower.state_dict().items()},
        tmp_path / "mvdream.safetensors",
    )
    encoder = open_text_encoder(tmp_path / "mvdream.safetensors", "cpu")
    found = encoder(["a red knight", ""])
    tokens = encoder.tokenizer(["a red knight", ""])
    x = tower.token_embedding(tokens) + tower.positional_embedding
    torch.testing.assert_close(found, tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask)))
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    encoder(["knight " * 80 + "dragon"])
    assert "has 83 tokens and 77 fit; lost: “knight knight knight knight knight dragon”" in caplog.text
