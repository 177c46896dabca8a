"""A small object in a large video comes from the video's own pixels, by Lanczos."""

import numpy as np
import pytest
from PIL import Image

from viewtime.sample.input.preprocess import Crop, cut
from viewtime.sample.input.read import FINEST_SIDE, finer_side
from viewtime.sample.pipeline import Pipeline


@pytest.mark.parametrize(
    ("picture", "crop", "cell", "expected"),
    [
        ((576, 1024), 600.0, 576, None),
        ((576, 1024), 144.0, 576, 4096),
        ((576, 1024), 288.0, 576, 2048),
        ((576, 1000), 100.0, 576, None),  # not shrunk: there are no more pixels
        ((576, 1024), 10.0, 576, FINEST_SIDE),
    ],
)
def test_side_to_read_again(picture, crop, cell, expected):
    side = finer_side(picture, crop, cell)
    assert side == expected if expected is None else abs(side - expected) <= 1


def test_lanczos_keeps_what_a_box_loses():
    """Stripes of 3 pixels shrunk by 2: Lanczos equals PIL's own filter on an opaque picture."""
    rows = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frame = np.concatenate([rows, np.full((64, 64, 1), 255, np.uint8)], axis=-1)
    cell = cut(frame, Crop(0.0, 0.0, 64.0), (32, 32))
    planes = [Image.fromarray(rows[..., c].astype(np.float32)) for c in range(3)]
    scaled = [np.asarray(plane.resize((32, 32), Image.Resampling.LANCZOS)) for plane in planes]
    expected = np.clip(np.stack(scaled, axis=-1), 0, 255)
    assert np.abs(cell[..., :3] - expected).max() <= 1
    boxed = np.asarray(Image.fromarray(rows).resize((32, 32), Image.Resampling.BOX)).astype(float)
    assert np.abs(boxed - expected).mean() > 5
    assert (cell[..., 3] == 255).all()


def test_a_small_object_is_read_at_full_size(tmp_path):
    """64 pixels of 2048: at 1024 its crop would be smaller than mini's cell."""
    frame = np.full((256, 2048, 3), 255, np.uint8)
    frame[96:160, 1000:1064] = 40
    for number in range(2):
        Image.fromarray(frame).save(tmp_path / f"frame_{number}.png")
    job = Pipeline.from_pretrained("mini", device="cpu").prepare(tmp_path)
    assert max(job.prepared.source_size) > 1024
    assert min(crop.side for crop in job.prepared.crops) >= 63
