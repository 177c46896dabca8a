"""Gaussian files, reopened by others' readers: .spz by Niantic's decoder, .ply by plyfile, .splat by its layout."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from node_modules_of_tests import node_module
from scipy.spatial.transform import Rotation

from viewtime.configs.schema.export import ExportConfig
from viewtime.errors import UserError
from viewtime.recon.export.ply import scale_and_quaternion
from viewtime.recon.export_command import export_asset
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.interchange.splat_files import spz_bytes

COUNT = 40
Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


@pytest.fixture(scope="module")
def asset():
    """Long Gaussians of many directions and colours that move."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(1, COUNT, 3, generator=generator) - 0.5 + torch.tensor([0.0, 0.1])[:, None, None]
    axes = torch.from_numpy(Rotation.random(COUNT, random_state=0).as_matrix()).float()
    sizes = torch.tensor([0.02, 0.05, 0.1]) ** 2
    return GaussianAsset(
        means, axes * sizes @ axes.transpose(1, 2), torch.rand(COUNT, generator=generator) * 0.8 + 0.1,
        torch.rand(COUNT, 3, generator=generator), torch.eye(3).expand(2, COUNT, 3, 3), 10.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(asset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asset")
    asset.save(folder)
    export_asset(ExportConfig(folder, folder / "out", ("gaussian_ply", "spz", "splat")))
    return folder / "out"


def covariances(scale, xyzw):
    turn = Rotation.from_quat(xyzw).as_matrix()
    return turn * (np.asarray(scale) ** 2)[:, None] @ turn.transpose(0, 2, 1)


def test_niantics_decoder_reads_the_spz(asset, exported):
    module = node_module("@spz-loader/core", "0.3.1")
    script = Path(__file__).with_name("read_spz.js")
    command = ["node", script, module, exported / "spz" / "frame_001.spz"]
    cloud = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert (cloud["numPoints"], cloud["shDegree"]) == (COUNT, 0)
    place = np.reshape(cloud["positions"], (-1, 3))
    np.testing.assert_allclose(place, asset.means[1].numpy() @ Y_UP.T, atol=3e-4)
    turned = covariances(np.reshape(cloud["scales"], (-1, 3)), np.reshape(cloud["rotations"], (-1, 4)))
    wanted = Y_UP @ asset.at(1.0)[1].numpy() @ Y_UP.T
    np.testing.assert_allclose(turned, wanted, atol=0.1 * 0.1**2)
    np.testing.assert_allclose(cloud["alphas"], asset.opacity, atol=0.005)
    np.testing.assert_allclose(np.reshape(cloud["colors"], (-1, 3)), asset.colour, atol=0.01)


def test_the_splat_layout(asset, exported):
    record = np.dtype([("place", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("turn", "u1", 4)])
    table = np.frombuffer((exported / "splat" / "frame_000.splat").read_bytes(), record)
    assert len(table) == COUNT
    order = [int(np.abs(table["place"] - place).sum(axis=1).argmin()) for place in asset.means[0].numpy() @ Y_UP.T]
    assert sorted(order) == list(range(COUNT))
    table = table[order]
    np.testing.assert_allclose(table["colour"][:, :3] / 255, asset.colour, atol=0.003)
    np.testing.assert_allclose(table["colour"][:, 3] / 255, asset.opacity, atol=0.003)
    turn = (table["turn"].astype(float) - 128) / 128
    wanted = Y_UP @ asset.covariance.numpy() @ Y_UP.T
    np.testing.assert_allclose(covariances(table["scale"], turn[:, [1, 2, 3, 0]]), wanted, atol=0.05 * 0.1**2)


def test_plyfile_reads_the_sequence(asset, exported):
    plyfile = pytest.importorskip("plyfile", reason="plyfile is not installed")
    vertex = plyfile.PlyData.read(exported / "gaussian_ply" / "frame_001.ply")["vertex"]
    place = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    np.testing.assert_allclose(place, asset.means[1], atol=1e-6)
    scale = np.exp(np.stack([vertex[f"scale_{axis}"] for axis in range(3)], axis=1))
    xyzw = np.stack([vertex[f"rot_{axis}"] for axis in (1, 2, 3, 0)], axis=1)
    np.testing.assert_allclose(covariances(scale, xyzw), asset.at(1.0)[1], atol=1e-6)
    assert scale_and_quaternion(asset.covariance)[0].shape == (COUNT, 3)


def test_a_place_that_spz_cannot_say(asset):
    far = GaussianAsset(
        asset.means + 3000.0, asset.covariance, asset.opacity, asset.colour, asset.linear, asset.fps
    )  # fmt: skip
    with pytest.raises(UserError, match=r"frame 1: a Gaussian lies 3.* from the middle; \.spz ends at 2048"):
        spz_bytes(far, 1)
