import json
import struct
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from viewtime.errors import UserError
from viewtime.weight_header import open_weights
from viewtime.weights import load_weights, read_header, save_weights


def tensors():
    torch.manual_seed(0)
    return {
        "weight": torch.randn(3, 4),
        "bias": torch.randn(3).to(torch.bfloat16),
        "count": torch.tensor(7),
        "flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 2),
    }


def test_round_trip_and_the_safetensors_library_agree(tmp_path):
    path = save_weights(tmp_path / "w.safetensors", tensors(), {"family": "x", "sizes": [1, 2]})
    by_library = safetensors.torch.load_file(path)
    config, header = read_header(path)
    assert config == {"family": "x", "sizes": [1, 2]}
    for key, tensor in tensors().items():
        assert torch.equal(by_library[key], tensor)
        assert by_library[key].dtype == tensor.dtype == header[key].dtype
        assert tuple(tensor.shape) == header[key].shape
    assert list(tmp_path.iterdir()) == [path]


def test_loads_on_the_meta_device_into_a_dtype(tmp_path):
    source = nn.Linear(4, 3)
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({f"net.{k}": v for k, v in source.state_dict().items()}, path)
    loaded = load_weights(
        lambda: nn.Linear(4, 3), path, dtype=torch.bfloat16, key_map=lambda key: key.removeprefix("net.")
    )
    assert torch.equal(loaded.state_dict()["weight"], source.weight.to(torch.bfloat16))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.state_dict()["bias"].dtype == torch.bfloat16


def test_misfits_are_all_named(tmp_path):
    path = save_weights(tmp_path / "w.safetensors", {"weight": torch.zeros(3, 5), "extra": torch.zeros(1)}, {})
    with pytest.raises(UserError) as error:
        load_weights(nn.Linear(4, 3), path)
    for part in ("1 missing (bias)", "1 unexpected (extra)", "weight is [3, 5], not [3, 4]"):
        assert part in str(error.value)


def test_shards_are_read_through_their_index(tmp_path):
    source = nn.Linear(4, 3)
    save_weights(tmp_path / "m-1.safetensors", {"weight": source.weight}, {})
    save_weights(tmp_path / "m-2.safetensors", {"bias": source.bias}, {})
    index = {"weight_map": {"weight": "m-1.safetensors", "bias": "m-2.safetensors"}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_weights(lambda: nn.Linear(4, 3), tmp_path)
    assert torch.equal(loaded.state_dict()["bias"], source.bias)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"no such weight file.*m-2"):
        load_weights(lambda: nn.Linear(4, 3), tmp_path)


def wrong_files(folder):
    whole = save_weights(folder / "whole.safetensors", {"weight": torch.zeros(300)}, {}).read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    torch.save({"weight": torch.zeros(3)}, folder / "model.ckpt")
    torch.save({"weight": torch.zeros(3)}, folder / "old.ckpt", _use_new_zipfile_serialization=False)
    return {
        "cut off": whole[:-1],
        "cut off inside its header": whole[: 8 + header // 2],
        "is a text file": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "pickled checkpoint": (folder / "model.ckpt").read_bytes(),
        r"pickled checkpoint \(\.ckpt": (folder / "old.ckpt").read_bytes(),
        "is empty": b"",
        "not a safetensors file": b"\xff\xfe" * 40,
    }


@pytest.mark.parametrize("index", range(7))
def test_a_wrong_file_gives_one_line_at_once(tmp_path, index):
    message, content = list(wrong_files(tmp_path).items())[index]
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(UserError, match=message) as error:
        read_header(path)
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 60


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such weight file"):
        read_header(tmp_path / "absent.safetensors")


def test_a_file_without_tensors_is_one_all_the_same(tmp_path):
    (tmp_path / "none.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert not safetensors.torch.load_file(tmp_path / "none.safetensors")
    assert not open_weights(tmp_path / "none.safetensors").entries


def test_an_index_whose_shards_lack_a_tensor_says_which(tmp_path):
    save_weights(tmp_path / "one.safetensors", {"a": torch.zeros(2)}, {})
    placed = {"a": "one.safetensors"}
    (tmp_path / "w.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert set(open_weights(tmp_path / "w.safetensors.index.json").entries) == {"a"}
    (tmp_path / "w.safetensors.index.json").write_text(json.dumps({"weight_map": placed | {"b": "one.safetensors"}}))
    with pytest.raises(UserError, match="names 1 tensors that its shards lack: b;"):
        open_weights(tmp_path / "w.safetensors.index.json")
