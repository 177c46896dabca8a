"""Networks from files: the calls they get, and plain words where they are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.sample.metrics.tiny_clip import tiny_clip
from viewtime.errors import UserError
from viewtime.sample.metrics.measures.reaction import blur
from viewtime.sample.metrics.networks.filter_bank import FilterBank
from viewtime.sample.metrics.networks.perceptual import ClipSimilarity, Lpips, LpipsStar, StLpips
from viewtime.sample.metrics.networks.video import load_video_network


class ToyI3D(nn.Module):
    """The call of StyleGAN-V's TorchScript detector: [N, 3, T, 224, 224] in [-1, 1]."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        if rescale or resize or not return_features:
            raise ValueError("unexpected flags")
        return torch.stack([x.amin(dim=(1, 2, 3, 4)), x.amax(dim=(1, 2, 3, 4)), x[:, 0, -1, 0, 0]], dim=1)


def test_i3d_gets_what_the_published_file_expects(tmp_path: Path) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(ToyI3D()).save(str(path))
    network = load_video_network("i3d", path)
    images = torch.zeros(12, 3, 40, 40)
    images[-1] = 1.0
    prepared = network.prepare(images)
    assert prepared.shape == (12, 3, 224, 224)
    assert network(prepared[None])[0].tolist() == pytest.approx([-1.0, 1.0, 1.0], abs=1e-5)
    assert network.checksum.startswith("sha256 ")
    assert not network.star


@pytest.mark.slow
def test_r3d_features_from_a_file(tmp_path: Path) -> None:
    video = pytest.importorskip("torchvision.models.video")
    torch.manual_seed(0)
    model = video.r3d_18(weights=None).eval()
    save_file(model.state_dict(), tmp_path / "r3d.safetensors")
    network = load_video_network("r3d", tmp_path / "r3d.safetensors")
    prepared = network.prepare(torch.rand(8, 3, 30, 30))
    assert prepared.shape == (8, 3, 112, 112)
    features = network(prepared[None])
    assert features.shape == (1, 512)
    with torch.no_grad():
        logits = model(prepared[None].transpose(1, 2))
    assert torch.allclose(model.fc(features), logits, atol=1e-4)


def test_s3d_averages_its_last_maps(tmp_path: Path) -> None:
    video = pytest.importorskip("torchvision.models.video")
    torch.save(video.s3d(weights=None).state_dict(), tmp_path / "s3d.pth")
    network = load_video_network("s3d", tmp_path / "s3d.pth")
    assert network(network.prepare(torch.rand(8, 3, 24, 24))[None]).shape == (1, 1024)


def test_missing_and_wrong_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    wrong = tmp_path / "wrong.pth"
    torch.save({"weight": torch.zeros(1)}, wrong)
    with pytest.raises(UserError, match="I3D needs its TorchScript file"):
        load_video_network("i3d")
    with pytest.raises(UserError, match="is no TorchScript file"):
        load_video_network("i3d", wrong)
    with pytest.raises(UserError, match="no such weights file for s3d"):
        load_video_network("s3d", tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no weights of R3D-18"):
        load_video_network("r3d", wrong)
    with pytest.raises(UserError, match="R3D-18 has no weights on this machine"):
        load_video_network("r3d", offline=True)
    with pytest.raises(UserError, match="takes no weights"):
        load_video_network("filter-bank", wrong)
    with pytest.raises(UserError, match="LPIPS needs alexnet"):
        Lpips(offline=True)


def test_lpips_runs_on_a_backbone_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an untrained backbone in the hub's folder: equal images 0, others more. The library does the rest."""
    pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision.models")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metric = Lpips("squeeze", offline=True)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = metric.module(images * 2 - 1, 1 - images * 2).flatten()  # the library's own range
    torch.testing.assert_close(metric(images, 1 - images), wanted)
    assert metric(images, images).abs().max() == 0
    assert (metric(images, images.flip(-1)) > 0).all()
    assert "squeeze, sha256" in metric.protocol


def test_st_lpips_needs_no_download_and_minds_a_blur_more_than_a_shift(spheres) -> None:
    """Its package's own weights: two values of them, equal images, and what the paper is about."""
    pytest.importorskip("stlpips_pytorch")
    metric = StLpips()
    across = torch.linspace(0, 1, 64)
    ramp = torch.stack([across.expand(64, 64), across[:, None].expand(64, 64), (across * 12).sin().expand(64, 64)])[
        None
    ]
    assert metric(ramp, ramp).item() == 0
    assert metric(ramp, ramp.flip(-1)).item() == pytest.approx(0.4508, abs=2e-4)
    rgb = spheres.rgb()[:, 0].float()
    faded = blur(spheres, 1.6)
    faded = faded[:, 0, :3] * faded[:, 0, 3:] + 1 - faded[:, 0, 3:]
    assert (metric(rgb.roll(1, dims=-1), rgb) < 0.5 * metric(faded.float(), rgb)).all()
    assert "alex, sha256" in metric.protocol


def test_clip_similarity_of_a_model_from_a_file(tmp_path: Path) -> None:
    _, path = tiny_clip(tmp_path)
    metric = ClipSimilarity("tiny-clip", str(path), offline=True)
    images = torch.rand(2, 3, 40, 40)
    assert metric(images, images).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert (metric(images, 1 - images) < 0.9999).all()
    assert "resampled to 32×32" in metric.protocol
    scores = metric.with_text(torch.cat([images, images]), "a red knight")
    assert scores.shape == (4,)
    assert scores[:2].tolist() == pytest.approx(scores[2:].tolist(), abs=1e-5)
    assert not torch.allclose(scores, metric.with_text(torch.cat([images, images]), "a dog"), atol=1e-4)
    with pytest.raises(UserError, match="no such CLIP weights file"):
        ClipSimilarity("tiny-clip", str(tmp_path / "none.bin"), offline=True)
    with pytest.raises(UserError, match="knows no weights 'openia'"):
        ClipSimilarity("tiny-clip", "openia", offline=True)


def test_lpips_star_is_zero_symmetric_and_rises_with_blur_and_shift(spheres) -> None:
    metric = LpipsStar(FilterBank())
    rgb = spheres.rgb()[:, 0]
    assert metric(rgb, rgb).abs().max() == 0
    values = []
    for sigma in (0.4, 0.8, 1.6):
        frames = blur(spheres, sigma)
        faded = (frames[:, 0, :3] * frames[:, 0, 3:] + 1 - frames[:, 0, 3:]).contiguous()
        assert torch.allclose(metric(faded, rgb), metric(rgb, faded), atol=1e-6)
        values.append(metric(faded, rgb))
    assert (values[0] > 0).all()
    assert (values[1] > values[0]).all()
    assert (values[2] > values[1]).all()
    shifted = [metric(rgb.roll(pixels, dims=-1), rgb) for pixels in (1, 2, 4)]
    assert (shifted[0] > 0).all()
    assert (shifted[2] > shifted[0]).all()
