"""Origin, height and frame rate of exported meshes."""

import dataclasses

import numpy as np
import pytest
from scenes import ball

from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.errors import UserError
from viewtime.recon.export.placing import placed, resampled


def hopping():
    """A ball that rises by 0.2 over three frames, off the middle."""
    mesh = ball(1)
    rise = np.array([[[0.4, 0.1, 0.0]], [[0.4, 0.1, 0.1]], [[0.4, 0.1, 0.2]]])
    return mesh.with_positions(mesh.positions + rise)


def test_feet_stand_on_the_origin_and_the_height_is_in_metres():
    mesh = placed(hopping(), MeshOptions(origin="feet", height=1.8))
    low, high = mesh.positions[0].min(axis=0), mesh.positions[0].max(axis=0)
    assert high[2] - low[2] == pytest.approx(1.8, abs=1e-5)
    np.testing.assert_allclose([*(low + high)[:2], low[2]], 0, atol=1e-5)
    assert mesh.positions[2].min(axis=0)[2] == pytest.approx(0.2 * 3, abs=1e-4)  # 0.6 high became 1.8
    np.testing.assert_array_equal(placed(hopping(), MeshOptions()).positions, hopping().positions)


def test_other_frame_rates_pass_through_the_old_frames_and_not_beyond():
    mesh = dataclasses.replace(hopping(), fps=10.0)
    fine = placed(mesh, MeshOptions(fps=30.0))
    assert (len(fine.positions), fine.fps) == (7, 30.0)
    np.testing.assert_allclose(fine.positions[::3], mesh.positions, atol=1e-6)
    height = fine.positions[:, :, 2].mean(axis=1)
    assert (np.diff(height) > 0).all()
    assert len(resampled(ball(1), 30.0).positions) == 1
    with pytest.raises(UserError, match=r"--mesh\.fps -1 must be positive"):
        placed(mesh, MeshOptions(fps=-1.0))
