"""Our names of the UNet's tensors and the published ones, in both directions."""

from __future__ import annotations

from viewtime.model.sv4d.config import UNetConfig

BLOCK = {
    "norm_mlp_in": "norm_in",
    "mlp_in.expand": "ff_in.net.0.proj",
    "mlp_in.contract": "ff_in.net.2",
    "norm_self": "norm1",
    "self_attention.query": "attn1.to_q",
    "self_attention.key": "attn1.to_k",
    "self_attention.value": "attn1.to_v",
    "self_attention.out": "attn1.to_out.0",
    "norm_cross": "norm2",
    "cross_attention.query": "attn2.to_q",
    "cross_attention.key": "attn2.to_k",
    "cross_attention.value": "attn2.to_v",
    "cross_attention.out": "attn2.to_out.0",
    "norm_mlp": "norm3",
    "mlp.expand": "ff.net.0.proj",
    "mlp.contract": "ff.net.2",
}
CONVOLUTIONS = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "embed": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
}
HEAD = {
    "noise_embed.expand": "time_embed.0",
    "noise_embed.contract": "time_embed.2",
    "vector_embed.expand": "label_emb.0.0",
    "vector_embed.contract": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "norm_out": "out.0",
    "conv_out": "out.2",
}
MLP = {"expand": "0", "contract": "2"}


def published_names(names: list[str], config: UNetConfig) -> dict[str, str]:
    """Our name -> published name (without `model.diffusion_model.`) of every tensor of the network.

    Raises:
        KeyError: a name that the network does not have.
    """
    table = _modules(config)
    translated = {}
    for name in names:
        module, _, leaf = name.rpartition(".")
        if leaf == "logit":
            translated[name] = f"{table[module]}.mix_factor"
        else:
            translated[name] = f"{table[module]}.{leaf}"
    return translated


def _modules(config: UNetConfig) -> dict[str, str]:
    """Our module path -> published module path, for every module that holds tensors."""
    table = dict(HEAD)
    residual, attention = _residual(config), _attention(config)
    place = 1
    for level in range(len(config.multipliers)):
        for _ in range(config.residual_blocks):
            _add(table, residual, f"encoder.{place - 1}.residual", f"input_blocks.{place}.0")
            _add(table, attention, f"encoder.{place - 1}.attention", f"input_blocks.{place}.1")
            place += 1
        if level + 1 < len(config.multipliers):
            table[f"encoder.{place - 1}.conv"] = f"input_blocks.{place}.0.op"
            place += 1
    _add(table, residual, "middle.residual_in", "middle_block.0")
    _add(table, attention, "middle.attention", "middle_block.1")
    _add(table, residual, "middle.residual_out", "middle_block.2")
    place = 0
    for level in reversed(range(len(config.multipliers))):
        for _ in range(config.residual_blocks + 1):
            _add(table, residual, f"decoder.{place}.residual", f"output_blocks.{place}.0")
            _add(table, attention, f"decoder.{place}.attention", f"output_blocks.{place}.1")
            upsample = 2 if config.attention_levels[level] else 1
            table[f"decoder.{place}.upsample.conv"] = f"output_blocks.{place}.{upsample}.conv"
            place += 1
    return table


def _add(table: dict[str, str], inner: dict[str, str], ours: str, theirs: str) -> None:
    for our_name, their_name in inner.items():
        table[f"{ours}.{our_name}"] = f"{theirs}.{their_name}" if their_name else theirs


def _residual(config: UNetConfig) -> dict[str, str]:
    grid = "time_mix_blocks" if config.axes == "view-frame" else "time_stack"
    table = {"blend": "time_mixer"}
    for ours, theirs in CONVOLUTIONS.items():
        table[f"space.{ours}"] = theirs
        table[f"grid.{ours}"] = f"{grid}.{theirs}"
    return table


def _attention(config: UNetConfig) -> dict[str, str]:
    table = {"norm": "norm", "project_in": "proj_in", "project_out": "proj_out"}
    _add(table, BLOCK, "space", "transformer_blocks.0")
    if config.axes == "view-frame":
        parts = [("view", "time_mix_blocks.0", "time_mix_time_embed", "time_mixer")]
        parts.append(("frame", "motion_blocks.0", "time_mix_motion_embed", "time_mixer_motion"))
    else:
        parts = [(config.axes, "time_stack.0", "time_pos_embed", "time_mixer")]
    for ours, block, embed, mixer in parts:
        _add(table, BLOCK, ours, block)
        _add(table, MLP, f"{ours}_embed", embed)
        table[f"{ours}_blend"] = mixer
    return table
