"""The networks compute what the published code computes, from the published names."""

import pytest
import torch
from golden_files import NETWORKS, arrays, conditioning, image_only, network, to_grid

TOLERANCE = 2e-5
BATCH = 2


def run(name, data, cond=None, **arguments):
    views = int(data.get("V", 1))
    cond = cond or conditioning(name, data, views, BATCH)
    unet = network(name, **arguments)
    x, label = to_grid(name, data["x"], views, BATCH), to_grid(name, data["t"], views, BATCH)
    return unet(x, label, cond), to_grid(name, data["out"], views, BATCH)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_forward(name, backend):
    ours, published = run(name, arrays(name), attention=backend)
    assert (ours - published).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["sv3d_p", "svd"])
def test_still_images_switch_the_temporal_branch_off(name):
    data = arrays(name)
    cond = conditioning(name, data, 1, BATCH)
    cond["image_only"] = image_only(name, data["image_only_indicator_b"])
    ours, plain = run(name, data, cond)
    assert (ours - to_grid(name, data["out_b"], 1, BATCH)).abs().max() < TOLERANCE
    assert (ours - plain).abs().max() > 100 * TOLERANCE


def test_published_raster_grouping_is_not_the_papers_joint_attention():
    """The golden case of SV4D 2.0 would notice if the switch did nothing."""
    data = arrays("sv4d2")
    views = int(data["V"])
    unet = network("sv4d2")
    for module in unet.modules():
        if getattr(module, "group", None) == "raster":
            module.group = "view-space"
    cond = conditioning("sv4d2", data, views, BATCH)
    grid = [to_grid("sv4d2", data[key], views, BATCH) for key in ("x", "t", "out")]
    assert (unet(grid[0], grid[1], cond) - grid[2]).abs().max() > 100 * TOLERANCE


def test_autocast_stays_close():
    data = arrays("sv4d")
    with torch.autocast("cpu", torch.bfloat16):
        ours, published = run("sv4d", data)
    assert (ours.float() - published).std() < 0.05 * published.std()
