"""Grids out of ordinary videos: moved in the image plane, or of scenes in which the camera alone moves."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from data_samples import video_of_dots

from viewtime.configs.schema.data import DataConfig
from viewtime.data.build import build_mixture
from viewtime.data.pseudo4d import AffineMove, Pseudo4DSource, view_amounts, warp_views
from viewtime.data.samples import CorruptSampleError, generator_for
from viewtime.data.sources import Consumer


def test_pseudo_4d_view_0_is_the_video_and_time_is_shared(tmp_path):
    video_of_dots(tmp_path)
    source = Pseudo4DSource(str(tmp_path), 4, 3, 48, 2)
    sample = source.draw(Consumer(0), 0, generator_for(3))
    assert sample.frames.shape == (4, 3, 3, 48, 48)
    still = AffineMove((0, 0), 0, 0, 0)
    assert torch.equal(warp_views(sample.frames[0], still, torch.ones(2))[1], sample.frames[0])
    assert not torch.equal(sample.frames[3], sample.frames[0])
    assert (sample.cameras.azimuth[0] == 0).all()
    turned = (sample.cameras.azimuth[:, 0] + 180) % 360 - 180
    assert (turned.diff().sign() == turned[-1].sign()).all()


def test_a_static_scene_is_seen_from_view_to_view_and_stands_still_in_time(tmp_path):
    video_of_dots(tmp_path)
    config = DataConfig(static_videos=str(tmp_path), views=4, frames=3, resolution=48, max_stride=2)
    (source,) = build_mixture(config).sources
    sample = source.draw(Consumer(0), 0, generator_for(3))
    assert (sample.frames.shape, sample.source) == ((4, 3, 3, 48, 48), "static videos")
    assert torch.equal(sample.frames, sample.frames[:, :1].expand_as(sample.frames))
    places = [int((view[0, 0].int() - view[0, 1].int()).sum(0).argmax()) for view in sample.frames]
    assert all(right > left for left, right in pairwise(places))  # views follow the film
    assert sample.cameras.azimuth[:, 0].unique().numel() == 4
    with pytest.raises(CorruptSampleError, match="13 are drawn"):
        Pseudo4DSource(str(tmp_path), 13, 1, 48, static=True).draw(Consumer(0), 0, generator_for(3))


def test_affine_moves_are_continuous_and_do_what_they_say():
    picture = torch.zeros(1, 1, 65, 65, dtype=torch.uint8)
    picture[0, 0, 32, 32] = 255
    amounts = view_amounts(generator_for(0), 6)
    assert amounts[0] == 0
    assert amounts[-1] == 1
    assert (amounts.diff() > 0).all()
    shifted = warp_views(picture, AffineMove((0.25, 0), 0, 0, 0), torch.tensor([0.0, 0.5, 1.0]))
    places = [int(view[0, 0].sum(0).argmax()) for view in shifted]
    assert places == [32, 28, 24]  # a quarter of half the width to the right moves the content 8 px to the left
    cross = torch.zeros(1, 1, 65, 65, dtype=torch.uint8)
    cross[0, 0, 32, 52] = 255
    turned = warp_views(cross, AffineMove((0, 0), 0, np.pi / 2, 0), torch.tensor([1.0]))[0, 0, 0]
    row, column = divmod(int(turned.argmax()), 65)
    assert {abs(row - 32), abs(column - 32)} == {20, 0}
    zoomed = warp_views(cross, AffineMove((0, 0), np.log(1.5), 0, 0), torch.tensor([1.0]))[0, 0, 0]
    assert int(zoomed.sum(0).argmax()) == 62  # 20 px from the centre become 30


def test_a_turn_keeps_shapes_in_a_wide_picture():
    """Without the aspect ratio in the matrix a turned square would be sheared."""
    wide = torch.zeros(1, 1, 65, 129, dtype=torch.uint8)
    wide[0, 0, 32, 64 + 20] = 255
    turned = warp_views(wide, AffineMove((0, 0), 0, np.pi / 2, 0), torch.tensor([1.0]))[0, 0, 0]
    row, column = divmod(int(turned.argmax()), 129)
    assert abs(row - 32) == 20
    assert column == 64
