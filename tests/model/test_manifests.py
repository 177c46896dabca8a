"""Every tensor of the published models, at real size, on the meta device."""

import gzip
import json

import pytest
import torch
from golden_files import REPOSITORY

from viewtime.model.published.presets import load_model_config, model_presets
from viewtime.model.published.published_keys import is_unused, published_manifest, used_names
from viewtime.model.video_model import VideoModel, published_key_map

PARAMETERS = {
    "sv4d": (2_980_877_155, 1_996_625_322, 3188),
    "sv4d2": (2_995_213_171, 2_010_961_338, 3204),
    "sv4d2-8views": (2_995_213_171, 2_010_961_338, 3204),
    "sv3d-u": (2_340_911_829, 1_523_967_722, 2212),
    "sv3d-p": (2_342_222_549, 1_525_278_442, 2212),
    "svd-xt": (2_389_819_785, 1_524_623_082, 2446),
}


def published(preset):
    path = REPOSITORY / "checkpoint_keys" / f"{preset.replace('-', '_')}.json.gz"
    return {key: tuple(shape) for key, shape in json.loads(gzip.decompress(path.read_bytes())).items()}


def count(shapes):
    return sum(torch.Size(shape).numel() for shape in shapes)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_manifest(preset):
    config = load_model_config(preset)
    expected = published(preset)
    assert published_manifest(config) == expected
    total, network, tensors = PARAMETERS[preset]
    assert len(expected) == tensors
    assert count(expected.values()) == total
    names = used_names(config)
    assert count(shape for name, (_, shape) in names.items() if name.startswith("network.")) == network


@pytest.mark.parametrize("preset", PARAMETERS)
def test_the_whole_published_file_loads_strictly_on_the_meta_device(preset):
    config = load_model_config(preset)
    with torch.device("meta"):
        model = VideoModel(config)
    rename = published_key_map(config, config.parts)
    tensors = {}
    for key, shape in published(preset).items():
        name = rename(key)
        assert (name is None) == is_unused(key)
        if name is not None:
            tensors[name] = torch.empty(shape, device="meta")
    model.load_state_dict(tensors, strict=True, assign=True)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_names_are_a_bijection_and_every_preset_has_a_small_twin(preset):
    names = used_names(load_model_config(preset))
    assert len({published for published, _ in names.values()}) == len(names)
    twin = load_model_config(f"{preset}-debug")
    assert twin.family == load_model_config(preset).family
    assert f"{preset}-debug" in model_presets()
    assert count(shape for _, shape in used_names(twin).values()) < 5_000_000
