"""Similarities between points and between cameras, recovered exactly where they were planted."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from walls import cameras

from viewtime.recon.scene.similarity import align_cameras, pose_errors, umeyama


def planted(seed=0):
    rotation = torch.from_numpy(Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix())
    return 1.7, rotation, torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)


def test_umeyama_finds_a_planted_similarity_and_an_outlier_of_no_weight_changes_nothing():
    scale, rotation, shift = planted()
    source = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = scale * source @ rotation.T + shift
    target[4] += 10
    weights = torch.ones(9)
    weights[4] = 0
    found = umeyama(source, target, weights)
    assert float(found.scale) == pytest.approx(scale)
    torch.testing.assert_close(found.rotation, rotation)
    torch.testing.assert_close(found.translation, shift)
    rigid = umeyama(source, source @ rotation.T + shift, with_scale=False)
    torch.testing.assert_close(rigid.points(source), source @ rotation.T + shift)


def test_umeyama_never_mirrors():
    source = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = umeyama(source, source * torch.tensor([1.0, 1.0, -1.0]))
    assert float(torch.linalg.det(found.rotation)) == pytest.approx(1)


def test_cameras_in_a_row_are_aligned_by_where_they_look_too():
    scale, rotation, shift = planted()
    truth = cameras(5, 1).camera_to_world()[:, 0].double()
    truth[:, 1:3, 3] = torch.tensor([-2.2, 0.1])  # exactly in a row
    found = truth.clone()
    found[:, :3, :3] = rotation @ truth[:, :3, :3]
    found[:, :3, 3] = scale * truth[:, :3, 3] @ rotation.T + shift
    torch.testing.assert_close(align_cameras(found, truth).cameras(found), truth)
    assert pose_errors(found, truth) == pytest.approx((0, 0), abs=1e-5)


def test_pose_errors_measure_what_was_planted():
    truth = cameras(6, 1).camera_to_world()[:, 0].double()
    turned = truth.clone()
    wobble = Rotation.from_rotvec([0, 0, math.radians(3.0)]).as_matrix()
    turned[2, :3, :3] = truth[2, :3, :3] @ torch.from_numpy(wobble)
    place, turn = pose_errors(turned, truth)
    assert turn == pytest.approx(3.0 * 5 / 6, abs=0.02)  # a sixth of it went into the alignment
    assert place < 0.01
    away = truth.clone()
    away[0, 2, 3] += 0.1
    size = float((truth[:, :3, 3] - truth[:, :3, 3].mean(0)).square().sum(1).mean().sqrt())
    # Of the planted error the mean goes into the shift: sqrt(5)/6 of it is left, root mean square.
    assert pose_errors(away, truth)[0] == pytest.approx(0.1 * math.sqrt(5) / 6 / size, rel=0.05)
