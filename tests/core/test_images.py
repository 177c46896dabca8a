"""Still images: rounding, tables of pictures, natural order, what is refused and how it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from viewtime.errors import UserError
from viewtime.image_files import alike, is_file, is_hidden, natural_order, read_animation, read_image
from viewtime.images import composite, sheet, to_uint8, write_image
from viewtime.video import read_video, write_video, write_webm


def test_values_are_rounded_and_clipped() -> None:
    assert to_uint8(np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1.0, 2.0])).tolist() == [
        0, 0, 0, 1, 128, 255, 255, 255
    ]  # fmt: skip
    same = np.array([7, 200], np.uint8)
    assert to_uint8(same) is same
    assert to_uint8(torch.tensor([0.2], requires_grad=True)).tolist() == [51]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_number_of_channels_is_written(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    back = read_image(write_image(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(back, pixels.repeat(3, axis=-1) if channels == 1 else pixels)


def test_alpha_lies_over_a_level_of_grey() -> None:
    pixels = torch.tensor([1.0, 0.5, 0.0, 0.25])[:, None, None]
    assert composite(pixels).flatten().tolist() == [1.0, 0.875, 0.75]
    assert composite(pixels, 0.4).flatten().tolist() == pytest.approx([0.55, 0.425, 0.3])
    assert composite(pixels[:3]) is not None
    assert torch.equal(composite(pixels[:3]), pixels[:3])


def test_a_table_puts_rows_and_columns_where_they_belong() -> None:
    """Two views of three frames, twice as wide as high; each cell has a grey of its own."""
    greys = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    frames = greys[:, :, None, None, None].expand(2, 3, 3, 10, 20)
    table = sheet(frames, cell_size=20)
    assert table.shape == (40, 120, 3)
    np.testing.assert_array_equal(table[10::20, 20::40, 0], to_uint8(greys))
    np.testing.assert_array_equal(table[[0, 19, 20, 39]][:, [0, 39, 40]][..., 0][:, 0], to_uint8(greys[:, 0]).repeat(2))
    labelled = sheet(frames, cell_size=20, row_labels=["a", "b"], column_labels=["1", "2", "3"])
    assert labelled.shape == (16 + 40, 72 + 120, 3)
    np.testing.assert_array_equal(labelled[16 + 2 :: 20, 72 + 30 :: 40, 0], to_uint8(greys))
    for place in (labelled[16 + 4 : 36, :72], labelled[36:, :72], labelled[:16, 72 + 80 :], labelled[:16, 72:112]):
        assert (place < 128).any(), "a label"
    assert (labelled[:16, :72] == 255).all()
    assert sheet(frames).shape == (2 * 96, 3 * 192, 3)
    assert sheet(torch.zeros(1, 1, 3, 120, 60)).shape == (120, 60, 3)
    assert sheet(torch.zeros(1, 1, 3, 90, 1), cell_size=9).shape == (9, 1, 3)


def test_a_table_of_many_columns_shows_the_first_the_last_and_some_between() -> None:
    greys = torch.linspace(0, 1, 9)
    frames = greys[None, :, None, None, None].expand(1, 9, 3, 8, 8)
    table = sheet(frames, cell_size=8, max_columns=3, column_labels=[str(number) for number in range(9)])
    assert table[20, 4::8, 0].tolist() == [0, 128, 255]
    assert sheet(frames, cell_size=8, max_columns=9).shape == (8, 72, 3)
    fine = torch.zeros(1, 1, 3, 8, 8)
    fine[..., ::2] = 1
    assert set(sheet(fine, cell_size=16)[0, :, 0].tolist()) == {0, 255}, "enlarged without blending"
    assert 0 < sheet(fine, cell_size=4)[0, 1, 0] < 255, "shrunk with"


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["a10", "a2", "a", "2", "10", "a2b", "a02", "b1", "a²"]
    assert sorted(names, key=natural_order) == ["2", "10", "a", "a02", "a2", "a2b", "a10", "a²", "b1"]


def test_names_that_are_no_files(tmp_path: Path) -> None:
    assert not is_file(tmp_path)
    assert not is_file(Path("a" * 5000))
    assert not is_file(Path("a\0b"))
    assert is_hidden(Path("x/._a.png"))
    assert not is_hidden(Path(".x/a.png"))


def test_frames_with_and_without_alpha_become_alike() -> None:
    plain, clear = np.full((2, 2, 3), 9, np.uint8), np.full((2, 2, 4), 5, np.uint8)
    assert alike([plain, clear])[:, 0, 0].tolist() == [[9, 9, 9, 255], [5, 5, 5, 5]]
    assert alike([plain, plain]).shape == (2, 2, 2, 3)


def test_pages_of_another_size_are_left_out_and_counted(tmp_path: Path) -> None:
    pages = [Image.new("RGB", size) for size in ((8, 6), (4, 3), (8, 6), (6, 8))]
    pages[0].save(tmp_path / "in.tiff", save_all=True, append_images=pages[1:])
    animation = read_animation(tmp_path / "in.tiff")
    assert animation.frames.shape == (2, 6, 8, 3)
    assert animation.note == "in.tiff: 2 pages of another size than the first are left out"
    assert (animation.durations, animation.count) == (None, 4)


def test_frames_are_read_for_some_seconds(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (0, 60, 120, 180)]
    frames[0].save(tmp_path / "in.webp", save_all=True, append_images=frames[1:], duration=[100, 50, 100, 200])
    whole = read_animation(tmp_path / "in.webp")
    assert whole.durations == pytest.approx([0.1, 0.05, 0.1, 0.2])
    assert (len(read_animation(tmp_path / "in.webp", seconds=0.14).frames), whole.note, whole.count) == (2, "", 4)
    assert len(read_animation(tmp_path / "in.webp", seconds=0.15).frames) == 2
    assert len(read_animation(tmp_path / "in.webp", seconds=0.16).frames) == 3
    assert len(read_animation(tmp_path / "in.webp", max_frames=1).frames) == 1


def test_what_is_no_image_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png is not an image that can be read: cannot identify"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match="the image is not an image that can be read: cannot identify"):
        read_image(b"no picture")
    with pytest.raises(UserError, match="texture 3 is not an image"):
        read_image(b"no picture", "texture 3")
    for values in ([-0.5, 0.5], [0.5, 1.5], [0.5, np.nan]):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "f.tiff")
        with pytest.raises(UserError, match="grey values reach from"):
            read_image(tmp_path / "f.tiff")


def test_transparency_of_every_kind_is_kept(tmp_path: Path) -> None:
    grey = Image.new("LA", (2, 2), (100, 30))
    grey.save(tmp_path / "la.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(tmp_path / "p.png", transparency=1)
    palette.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "la.png")[0, 0].tolist() == [100, 100, 100, 30]
    assert read_image(tmp_path / "p.png")[0, 0].tolist() == [9, 8, 7, 0]
    assert read_image(tmp_path / "opaque.png")[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("write", [write_video, write_webm])
def test_films_of_odd_sides_gain_a_row_and_a_column_at_their_end(tmp_path: Path, write) -> None:
    frames = np.full((3, 33, 47, 4 if write is write_webm else 3), 255, np.uint8)
    frames[:, :16, :24, :3] = 0
    film = read_video(write(tmp_path / ("a.webm" if write is write_webm else "a.mp4"), frames, 5.0))
    assert film.frames.shape[:3] == (3, 34, 48)
    assert film.fps == pytest.approx(5.0)
    dark = film.frames[..., 0] < 128
    assert dark[:, 1:15, 1:23].all()
    assert not dark[:, 18:].any()
    assert not dark[:, :, 26:].any()
