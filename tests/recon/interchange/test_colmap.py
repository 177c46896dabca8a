"""COLMAP folders and films of a grid, read by COLMAP itself and by FFmpeg."""

import numpy as np
import pytest
from PIL import Image
from scenes import training_grid

from viewtime.configs.schema.export import ExportConfig
from viewtime.errors import UserError
from viewtime.recon.export_command import export_asset
from viewtime.video import read_video


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(grid, the folder that `export` made of it)."""
    grid = training_grid(views=5, frames=2, size=48)
    folder = tmp_path_factory.mktemp("grids") / "g"
    grid.save(folder, lossless=True)
    paths = export_asset(ExportConfig(folder.parent, formats=("colmap", "webm")))  # as a run folder holds it
    assert [path.name for path in paths] == ["colmap", *[f"view_{view:03d}.webm" for view in range(5)]]
    return grid, folder.with_name("g-export")


def test_colmap_reads_cameras_pictures_and_points(exported):
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    grid, folder = exported
    model = pycolmap.Reconstruction(str(folder / "colmap" / "frame_001" / "sparse" / "0"))
    assert len(model.images) == 5
    place = np.array([[0.1, -0.05, 0.2]])
    import torch

    wanted, _ = grid.cameras.project(torch.from_numpy(place).float(), 48, 48)
    for image in model.images.values():
        view = int(image.name.removeprefix("view_").removesuffix(".png"))
        np.testing.assert_allclose(image.project_point(place[0]), wanted[view, 1, 0], atol=1e-3)
        picture = np.asarray(Image.open(folder / "colmap" / "frame_001" / "images" / image.name))
        np.testing.assert_allclose(picture[..., 3] / 255, grid.frames[view, 1, 3], atol=0.003)
    points = np.stack([point.xyz for point in model.points3D.values()])
    assert len(points) > 500
    assert np.abs(points).max() < 0.6
    colours = np.stack([point.color for point in model.points3D.values()]) / 255
    body = (np.abs(points[:, 0]) < 0.1) & (np.abs(points[:, 1]) < 0.2) & (np.abs(points[:, 2]) < 0.12)
    assert colours[body].mean(axis=0)[0] > colours[body].mean(axis=0)[1:].max() + 0.1  # the trunk is red


def test_a_grids_film_keeps_its_alpha(exported):
    grid, folder = exported
    video = read_video(folder / "view_003.webm")
    assert video.frames.shape == (2, 48, 48, 4)
    alpha = video.frames[..., 3] / 255
    assert np.abs(alpha - grid.frames[3, :, 3].numpy()).mean() < 0.01
    inside = grid.frames[3, :, 3].numpy() > 0.99
    assert np.abs(video.frames[..., :3] / 255 - grid.frames[3, :, :3].permute(0, 2, 3, 1).numpy())[inside].mean() < 0.05


def test_what_a_grid_is_not_exported_as(exported, tmp_path):
    _, folder = exported
    with pytest.raises(UserError, match="is a grid, which --formats glb are not made of: reconstruct it first"):
        export_asset(ExportConfig(folder.with_name("g"), formats=("glb", "colmap")))
    with pytest.raises(UserError, match="colmap folders are made of a grid"):
        export_asset(ExportConfig(tmp_path, formats=("colmap",)))
