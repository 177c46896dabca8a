"""SV4D's initialisation: frame attention from SVD-xt, all else from SV3D_p."""

import pytest
import torch
from published_files import write_published

from viewtime.configs.load import PRESET_FOLDER
from viewtime.configs.schema.init import InitConfig
from viewtime.errors import UserError
from viewtime.model.init_command import _origin, run
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.published_keys import used_names
from viewtime.model.video_model import load_video_model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init")
    svd, _, _ = write_published(folder, "svd-xt", seed=1)
    sv3d, _, _ = write_published(folder, "sv3d-p", seed=2)
    return svd, sv3d


def initialise(files, folder, model):
    (path,) = run(InitConfig(svd=files[0], sv3d=files[1], out=folder / "init.safetensors", model=model))
    return load_video_model(path).state_dict()


def test_every_tensor_comes_from_where_the_paper_says(files, tmp_path):
    svd, sv3d = (load_video_model(path).state_dict() for path in files)
    result = initialise(files, tmp_path, "sv4d-debug")
    zero = 0
    for name, tensor in result.items():
        if ".attention.frame" in name:
            if ".cross_attention.key." in name or ".cross_attention.value." in name:
                assert not tensor.any()
                zero += 1
            else:
                assert torch.equal(tensor, svd[name])
        else:
            assert torch.equal(tensor, sv3d[name.replace("view_encoder.", "frame_encoder.")])
    layers = sum(name.endswith("attention.project_in.weight") for name in result)
    assert zero == 2 * layers


def test_sv4d2_starts_without_a_view_embedding(files, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    model = tmp_path / "model.yaml"
    text = (PRESET_FOLDER / "sv4d2-debug.yaml").read_text()
    # SV4D 2.0's small twin has another vector width than SV3D_p's; at real size both are 1280
    text = text.replace("dim: 48", "dim: 64").replace("vector_dim: 128", "vector_dim: 160")
    model.write_text(text)
    result = initialise(files, tmp_path, str(model))
    assert not result["network.encoder.0.attention.view_embed.contract.weight"].any()
    assert result["network.encoder.0.attention.view_embed.expand.weight"].any()
    svd = load_video_model(files[0]).state_dict()
    name = "network.encoder.0.attention.frame_blend.logit"
    assert torch.equal(result[name], svd[name])


@pytest.mark.parametrize("preset", ["sv4d", "sv4d2", "sv4d2-8views"])
def test_every_tensor_of_the_real_size_has_an_origin_of_its_shape(preset):
    svd = {name: shape for name, (_, shape) in used_names(load_model_config("svd-xt")).items()}
    sv3d = {name: shape for name, (_, shape) in used_names(load_model_config("sv3d-p")).items()}
    new = []
    for name, (_, shape) in used_names(load_model_config(preset)).items():
        origin = _origin(name, svd, sv3d)
        assert origin is not None, name
        if origin != shape:
            new.append(name)
    context = [name for name in new if ".frame.cross_attention." in name]
    assert len(context) == 2 * 16
    # at the 6 layers that are 1280 wide, SV4D 2.0's view embedding has SV3D's shape by chance
    assert len(new) - len(context) == (0 if preset == "sv4d" else 10)
    assert all("view_embed.expand.weight" in name for name in new if name not in context)


def test_swapped_files_are_named(files, tmp_path):
    with pytest.raises(UserError, match=r"holds sv3d-p-debug; an SVD file is needed"):
        run(InitConfig(svd=files[1], sv3d=files[0], out=tmp_path / "x.safetensors", model="sv4d-debug"))
