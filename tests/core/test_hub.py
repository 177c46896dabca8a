"""Weights by name, against a small hub on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.small_hub import SmallHub, served
from viewtime.errors import UserError
from viewtime.hub import HubFile, parse_reference
from viewtime.model.weight_names import PUBLISHED, SHIPPED, published
from viewtime.weights import open_weights, read_tensors

ROOT = Path(__file__).resolve().parents[2]
CONTENT = np.random.default_rng(0).bytes(3 << 20)
FETCH = """
import sys
from viewtime.errors import UserError
from viewtime.model.weight_names import find_weights
try:
    print(find_weights(sys.argv[1], offline="--offline" in sys.argv))
except UserError as error:
    print("UserError:", error)
"""
PUSH = """
import sys
from viewtime import Pipeline
from viewtime.errors import UserError
try:
    print(Pipeline.from_pretrained("mini", device="cpu").push_to_hub(sys.argv[1]))
except UserError as error:
    print("UserError:", error)
"""


@pytest.fixture
def hub():
    return SmallHub({"owner/tiny": {"tiny.safetensors": CONTENT, "README.md": b"hello"}})


@pytest.fixture
def fetched(hub, tmp_path):
    """Fetch in a process of its own, whose huggingface_hub talks to the small hub; what it printed."""

    def run(reference, *flags, address=None, script=FETCH, **environment):
        words = [sys.executable, "-c", script, reference, *flags]
        settings = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "2"}
        settings |= {"HF_ENDPOINT": address or "http://127.0.0.1:9", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        everything = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        everything |= settings | environment
        result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=everything, check=True)
        return result.stdout.strip().splitlines()[-1]

    return run


def test_references_are_read():
    assert parse_reference("owner/name") == HubFile("owner/name")
    assert parse_reference("hf://owner/na-me.2@v1.0:a/b.safetensors") == HubFile(
        "owner/na-me.2", "a/b.safetensors", "v1.0"
    )
    assert parse_reference(f"owner/name:f.safetensors#sha256={'a' * 64}") == HubFile(
        "owner/name", "f.safetensors", sha256="a" * 64
    )
    assert parse_reference("some/deep/path") is None
    with pytest.raises(UserError, match="is no hub reference"):
        parse_reference("hf://name")


def test_downloaded_once_then_from_the_cache_without_a_network(hub, fetched):
    with served(hub) as address:
        path = Path(fetched("owner/tiny", address=address))
        assert path.read_bytes() == CONTENT
        assert fetched("hf://owner/tiny:tiny.safetensors", address=address) == str(path)
    assert hub.requests == [("tiny.safetensors", 0)]
    assert fetched("hf://owner/tiny:tiny.safetensors", "--offline") == str(path)
    assert fetched("owner/tiny", HF_HUB_OFFLINE="1") == str(path)


def test_a_broken_download_goes_on_where_it_stopped(hub, fetched):
    # huggingface_hub keeps what it received in pieces of 10 MB.
    large = hub.repositories["owner/tiny"]["tiny.safetensors"] = CONTENT * 9
    hub.breaks.add("tiny.safetensors")
    with served(hub) as address:
        said = fetched("hf://owner/tiny:tiny.safetensors", address=address)
        if said.startswith("UserError"):
            said = fetched("hf://owner/tiny:tiny.safetensors", address=address)
    assert Path(said).read_bytes() == large
    starts = [start for _, start in hub.requests]
    assert starts[0] == 0
    assert 0 < starts[-1] <= len(large) // 2


def test_a_wrong_checksum_is_refused_and_thrown_away(hub, fetched):
    hub.lies.add("tiny.safetensors")
    with served(hub) as address:
        assert "it is refused" in fetched("hf://owner/tiny:tiny.safetensors", address=address)
        hub.lies.clear()
        assert Path(fetched("hf://owner/tiny:tiny.safetensors", address=address)).read_bytes() == CONTENT
        pinned = f"owner/tiny:tiny.safetensors#sha256={'0' * 64}"
        assert "000000000000… is right: it is refused" in fetched(pinned, address=address)


def test_gated_missing_and_no_network_say_what_to_do(hub, fetched):
    hub.gated.add("owner/tiny")
    with served(hub) as address:
        said = fetched("hf://owner/tiny:tiny.safetensors", address=address)
        assert "are behind a licence: accept it on" in said
        assert "HF_TOKEN" in said
        assert Path(fetched("hf://owner/tiny:tiny.safetensors", address=address, HF_TOKEN="hf_good")).is_file()
        assert "no repository owner/none" in fetched("hf://owner/none:a.safetensors", address=address)
        said = fetched("hf://owner/tiny:b.safetensors", address=address, HF_TOKEN="hf_good")
        assert "has no file b.safetensors" in said
    said = fetched("hf://owner/other:a.safetensors")
    assert "the hub cannot be reached" in said
    assert "give the path of a file" in said
    assert "offline (--offline or HF_HUB_OFFLINE)" in fetched("hf://owner/other:a.safetensors", "--offline")


def test_a_pipeline_is_pushed_and_read_back(hub, fetched, tmp_path):
    with served(hub) as address:
        said = fetched("me/mine", address=address, script=PUSH)
        assert said.startswith("UserError: cannot push to me/mine: ")
        assert "set HF_TOKEN" in said
        assert "me/mine" not in hub.repositories
        url = fetched("me/mine", address=address, script=PUSH, HF_TOKEN="hf_good")
        assert url.startswith(f"{address}/me/mine/commit/")
        again = Path(fetched("hf://me/mine", address=address))
    assert [name for name in hub.repositories["me/mine"] if name.endswith(".safetensors")] == [again.name]
    pushed, shipped = (dict(read_tensors(open_weights(path))) for path in (again, SHIPPED["mini"]))
    assert pushed.keys() == shipped.keys()
    assert all(torch.equal(pushed[name], shipped[name]) for name in shipped)


def test_published_models_have_a_name_and_their_repositorys():
    for name in ("sv4d2", "SV4D2", "sv4d2.0", "stabilityai/sv4d2.0", "hf://stabilityai/sv4d2.0"):
        assert published(name) is PUBLISHED["sv4d2"], name
    assert published("sv3d_p") is PUBLISHED["sv3d-p"]
    assert published("stabilityai/sv3d") is None  # it holds two models
    assert published("stabilityai/another") is None
