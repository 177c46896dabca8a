"""Pickled checkpoints through `viewtime export`: tensors keep names, formats and bytes; code never runs."""

import torch
from safetensors.torch import load_file, save_file
from test_published_weights import Code

from viewtime.cli import main


def export(*words):
    return main(["export", *map(str, words)])


def test_a_checkpoint_becomes_safetensors(tmp_path, capsys):
    tensors = {
        "model.diffusion_model.out.2.weight": torch.randn(4, 3).T,
        "betas": torch.rand(7, dtype=torch.float64),
        "half": torch.randn(2).half(),
        "steps": torch.tensor(3),
    }
    torch.save({"state_dict": tensors, "global_step": 5}, tmp_path / "model.ckpt")
    out = tmp_path / "model.safetensors"
    assert export(tmp_path / "model.ckpt", "--layout", "safetensors", "--out", out) == 0
    assert str(out) in capsys.readouterr().out
    found = load_file(out)
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def test_what_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "callbacks": Code()}, "evil.pt")
    torch.save({"a": torch.zeros(2)}, "good.pt")
    save_file({"a": torch.zeros(2)}, "ready.safetensors")
    layout = ["--layout", "safetensors"]
    for words, message in (
        (["evil.pt", *layout, "--out", "x.safetensors"], ".system, which could run code; it was not opened"),
        (["good.pt", *layout, "--out", "folder"], "give a name that ends in .safetensors"),
        (["good.pt", "--out", "folder"], "--layout safetensors writes its tensors as they are named"),
        (["ready.safetensors", *layout, "--out", "x.safetensors"], "is no pickled checkpoint"),
        (["none.ckpt", *layout, "--out", "x.safetensors"], "no such weight file: none.ckpt"),
        (["good.pt", *layout], "needs --out"),
    ):
        assert export(*words) == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt", "good.pt", "ready.safetensors"]
