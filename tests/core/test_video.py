import struct
import zlib
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from viewtime.errors import UserError
from viewtime.hdr import BT2020, HLG, PQ, to_screen
from viewtime.image_files import read_image
from viewtime.video import display_matrix, read_video, upright, write_gif, write_video


def counting_frames(count=30, height=48, width=64) -> np.ndarray:
    """Frame i shows i in five big black or white blocks, so that the order can be read back after compression."""
    frames = np.full((count, height, width, 3), 128, np.uint8)
    for index in range(count):
        for bit in range(5):
            frames[index, :, bit * 12 : bit * 12 + 12] = 255 * (index >> bit & 1)
    return frames


def read_numbers(frames: np.ndarray) -> list[int]:
    return [
        sum(int(frame[8:40, bit * 12 + 3 : bit * 12 + 9].mean() > 128) << bit for bit in range(5)) for frame in frames
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_come_back_in_order(tmp_path, suffix):
    path = write_video(tmp_path / f"in{suffix}", counting_frames(), fps=8)
    video = read_video(path)
    assert read_numbers(video.frames) == list(range(30))
    assert video.fps == pytest.approx(8)
    assert video.note == ""
    assert len(read_video(path, max_frames=5).frames) == 5
    assert read_video(path, max_side=32).frames.shape[1:3] == (24, 32)


def test_gif_folder_and_glob(tmp_path):
    frames = counting_frames(12)
    assert read_numbers(read_video(write_gif(tmp_path / "in.gif", frames, 10)).frames) == list(range(12))
    folder = tmp_path / "images"
    folder.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:03d}.png")
    assert read_numbers(read_video(folder).frames) == list(range(12))
    assert read_numbers(read_video(str(folder / "00*.png")).frames) == list(range(10))


def test_transparent_images_keep_alpha(tmp_path):
    image = np.zeros((8, 8, 4), np.uint8)
    image[2:5, 2:5] = (200, 10, 10, 255)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert read_video(tmp_path).frames.shape == (1, 8, 8, 4)


def test_half_a_video_gives_what_decodes_and_says_so(tmp_path):
    path = tmp_path / "fast.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    video = read_video(path)
    assert 5 < len(video.frames) < 30
    assert f"{len(video.frames)} frames of 30" in video.note


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"this is text, not a video" * 20, "not a video"), (None, "no such video")],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "in.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as failure:
        read_video(path)
    assert "\n" not in str(failure.value)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no image in"):
        read_video(tmp_path)


def numbered_pictures(folder, numbers, save):
    """Pictures of `counting_frames`, the k-th under the k-th name."""
    folder.mkdir()
    for frame, number in zip(counting_frames(len(numbers)), numbers):
        save(Image.fromarray(frame), folder / f"frame_{number}.png")


def test_unpadded_numbers_come_in_their_order_and_macos_twins_are_no_pictures(tmp_path):
    numbered_pictures(tmp_path / "in", [1, 2, 9, 10, 11, 100], lambda image, path: image.save(path))
    (tmp_path / "in" / "._frame_1.png").write_bytes(b"\0\5\x16\7 no picture")
    (tmp_path / "in" / ".frame_2.123.partial.png").write_bytes(b"half")
    assert read_numbers(read_video(tmp_path / "in").frames) == list(range(6))
    assert read_numbers(read_video(str(tmp_path / "in" / "*.png")).frames) == list(range(6))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_the_camera_was_held(tmp_path, orientation):
    """What a viewer shows of each of EXIF's eight orientations is the same upright picture."""
    upright = np.zeros((6, 4, 3), np.uint8)
    upright[0], upright[:, 0, 1] = 255, 255
    turns = [
        lambda p: p, lambda p: p[:, ::-1], lambda p: p[::-1, ::-1], lambda p: p[::-1], lambda p: p.swapaxes(0, 1),
        lambda p: np.rot90(p, 1), lambda p: p[::-1, ::-1].swapaxes(0, 1), lambda p: np.rot90(p, -1),
    ]  # fmt: skip
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = np.ascontiguousarray(turns[orientation - 1](upright))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)


def test_grey_of_16_bits_is_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 257 * 30, 257 * 60, 65535]], np.uint16).repeat(3, axis=0)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tiff")
    Image.fromarray(np.linspace(0, 1, 4, dtype=np.float32)[None]).save(tmp_path / "f.tiff")
    for name in ("a.png", "a.tiff"):
        assert read_image(tmp_path / name)[1, :, 2].tolist() == [0, 30, 60, 255]
    assert read_image(tmp_path / "f.tiff")[0, :, 0].tolist() == [0, 85, 170, 255]
    Image.fromarray(np.full((2, 2), 300.0, np.float32)).save(tmp_path / "g.tiff")
    with pytest.raises(UserError, match="grey values reach from 300 to 300"):
        read_image(tmp_path / "g.tiff")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif", ".tiff"])
def test_all_frames_of_an_animated_image_at_their_times(tmp_path, suffix):
    path = tmp_path / f"in{suffix}"
    pictures = [Image.fromarray(frame) for frame in counting_frames(8)]
    lossless = {"lossless": True} if suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, **lossless)
    video = read_video(path)
    assert read_numbers(video.frames) == list(range(8))
    assert video.fps == pytest.approx(12.0 if suffix == ".tiff" else 12.5)
    assert len(read_video(path, max_frames=3).frames) == 3


def test_an_apng_whose_first_picture_is_for_others_alone(tmp_path):
    pictures = [Image.fromarray(frame) for frame in counting_frames(5)]
    pictures[0].save(tmp_path / "in.png", save_all=True, append_images=pictures[1:], default_image=True, duration=100)
    assert read_numbers(read_video(tmp_path / "in.png").frames) == [1, 2, 3, 4]


def test_uneven_times_become_an_even_rate_by_time_stamps(tmp_path):
    pictures = [Image.fromarray(frame) for frame in counting_frames(4)]
    path = tmp_path / "in.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 100, 300, 100], lossless=True)
    video = read_video(path)
    assert read_numbers(video.frames) == [0, 1, 2, 2, 2, 3]
    assert video.fps == pytest.approx(10.0)
    assert "variable frame rate" in video.note


def film(path, frames, times=None, codec="libx264", pix_fmt="yuv420p", **properties):
    """A video by hand: time stamps in 1/100 s, properties of the stream or its codec."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = Fraction(1, 100)
        for name, value in properties.items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = 10 * index if times is None else times[index]
            picture.time_base = Fraction(1, 100)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_video_of_a_variable_rate(tmp_path):
    times = [0, 10, 20, 30, 70, 80, 90]
    video = read_video(film(tmp_path / "in.mkv", counting_frames(7), times))
    assert read_numbers(video.frames) == [0, 1, 2, 3, 3, 3, 3, 4, 5, 6]
    assert video.fps == pytest.approx(10.0)


def test_pixels_that_are_not_square_are_undone(tmp_path):
    wide = read_video(film(tmp_path / "w.mp4", counting_frames(2), sample_aspect_ratio=Fraction(2, 1)))
    tall = read_video(film(tmp_path / "t.mp4", counting_frames(2), sample_aspect_ratio=Fraction(1, 2)))
    assert wide.frames.shape[1:3] == (48, 128)
    assert tall.frames.shape[1:3] == (96, 64)
    assert read_video(tmp_path / "w.mp4", max_side=64).frames.shape[1:3] == (24, 64)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), [[1, 2, 3], [4, 5, 6]]),
        ((0, 1, -1, 0), [[4, 1], [5, 2], [6, 3]]),  # a phone held upright: a quarter turn clockwise
        ((0, -1, 1, 0), [[3, 6], [2, 5], [1, 4]]),
        ((-1, 0, 0, -1), [[6, 5, 4], [3, 2, 1]]),
        ((-1, 0, 0, 1), [[3, 2, 1], [6, 5, 4]]),  # a mirror image
        ((0, 1, 1, 0), [[1, 4], [2, 5], [3, 6]]),
    ],
)
def test_turns_and_mirror_images_of_the_display_matrix(matrix, shown):
    pixels = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None]
    assert upright(pixels, matrix)[..., 0].tolist() == shown


def test_hdr_keeps_its_reference_white_and_its_greys():
    """BT.2408, table 1: white of 203 cd/m2 is 75 % of HLG's signal and 58 % of PQ's."""
    for transfer, white in ((HLG, 0.75), (PQ, 0.5807)):
        shown = to_screen(np.full((1, 3), white), transfer, BT2020)
        assert shown.tolist()[0] == pytest.approx([255] * 3, abs=1)
        assert to_screen(np.ones((1, 3)), transfer, BT2020).tolist() == [[255] * 3]
        assert to_screen(np.zeros((1, 3)), transfer, BT2020).tolist() == [[0] * 3]
    # 26 cd/m2, the same table's grey card: 38 % of HLG and of PQ. 26 / 203 of white is 101 in sRGB.
    assert to_screen(np.full((1, 3), 0.38), HLG, BT2020)[0, 0] == pytest.approx(101, abs=1)
    assert to_screen(np.full((1, 3), 0.38), PQ, BT2020)[0, 0] == pytest.approx(101, abs=1)


def test_an_hlg_file_is_brought_to_the_screen_and_says_so(tmp_path):
    frames = np.full((2, 32, 32, 3), 191, np.uint8)  # 75 % signal
    path = film(tmp_path / "in.mp4", frames, color_trc=HLG, color_primaries=BT2020, colorspace=9)
    video = read_video(path)
    assert video.frames.mean() > 245  # unmapped: 189
    assert "HDR" in video.note


def test_bombs_are_refused_by_their_size_before_anything_is_allocated(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for name, side in (("b.png", 65535), ("c.png", 12000)):
        header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    for name in ("b.png", "c.png"):
        with pytest.raises(UserError, match=r"larger than any picture|pixels; at most"):
            read_video(tmp_path / name)


def test_mixed_sizes_are_one_line_even_where_shrinking_makes_them_alike(tmp_path):
    for name, size in (("a", (64, 32)), ("b", (128, 64))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match=r"b\.png has 128 × 64 pixels, the first image 64 × 32"):
        read_video(tmp_path, max_side=32)


def test_hlg_between_its_two_branches_is_that_of_bt2100():
    """Table 5: 0.5 is 1/12 of the scene's light by either branch; 0.65 is 0.2064 by the upper one."""
    assert (
        to_screen(np.full((1, 3), 0.4999), HLG, BT2020)[0, 0] == to_screen(np.full((1, 3), 0.5001), HLG, BT2020)[0, 0]
    )
    scene = (np.exp((0.65 - 0.55991073) / 0.17883277) + 0.28466892) / 12
    linear = 1000 * scene**1.2 / 203
    assert to_screen(np.full((1, 3), 0.65), HLG, BT2020)[0, 0] == round(255 * (1.055 * linear ** (1 / 2.4) - 0.055))


def test_only_a_display_matrix_turns_a_picture():
    def item(kind: str, values: tuple[int, ...]) -> bytes:
        data = struct.pack(f"<{len(values)}i", *values)
        side = type("Side", (bytes,), {"type": SimpleNamespace(name=kind), "buffer_size": len(data)})
        return side(data)

    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    for side, wanted in (
        ([], (1, 0, 0, 1)),
        ([item("DISPLAYMATRIX", quarter)], (0, 1, -1, 0)),
        ([item("SEI_UNREGISTERED", quarter)], (1, 0, 0, 1)),
        ([item("DISPLAYMATRIX", quarter[:4])], (1, 0, 0, 1)),
        ([item("SEI_UNREGISTERED", (5,)), item("DISPLAYMATRIX", quarter)], (0, 1, -1, 0)),
        ([item("DISPLAYMATRIX", (0,) * 9)], (1, 0, 0, 1)),
    ):
        assert display_matrix(SimpleNamespace(side_data=side)) == wanted


@pytest.mark.parametrize("name", ["in.mp4", "in.gif", "folder"])
def test_a_video_is_read_for_some_seconds_and_says_how_long_it_is(tmp_path, name):
    path, frames = tmp_path / name, counting_frames(30)
    if name == "folder":
        path.mkdir()
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{index}.png")
    else:
        (write_gif if name == "in.gif" else write_video)(path, frames, 12.5 if name == "in.gif" else 12.0)
    beginning = read_video(path, seconds=1.0)
    assert len(beginning.frames) == (13 if name == "in.gif" else 12)
    assert beginning.note == ("images have no frame rate: 12 a second are taken for it" if name == "folder" else "")
    assert beginning.whole == pytest.approx(2.4 if name == "in.gif" else 2.5, rel=0.01)
    assert len(read_video(path, seconds=9.0).frames) == 30


def test_a_rate_that_nobody_named_is_said(tmp_path):
    frames = counting_frames(4)
    pages = [Image.fromarray(frame) for frame in frames]
    for name, words in {
        "in.gif": "names no time for 4 frames: 0.1 s each",
        "in.tiff": "says no frame rate: 12 a",
    }.items():
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert words in read_video(tmp_path / name).note
    pages[0].save(tmp_path / "one.png")
    assert read_video(tmp_path / "one.png").note == ""


def test_a_film_of_larger_pictures_than_any_is_refused_before_one_is_decoded(tmp_path, monkeypatch):
    path = film(tmp_path / "in.mp4", np.zeros((2, 32, 64, 3), np.uint8))
    monkeypatch.setattr("viewtime.video.MOST_PIXELS", 32 * 64)
    assert read_video(path).frames.shape == (2, 32, 64, 3)
    monkeypatch.setattr("viewtime.video.MOST_PIXELS", 32 * 64 - 1)
    with pytest.raises(UserError, match="pixels; at most"):
        read_video(path)


def test_words_in_a_films_tags_that_are_no_text_are_nobodys_concern(tmp_path):
    path = tmp_path / "film.mp4"
    write_video(path, np.full((6, 32, 32, 3), 90, np.uint8), 10.0)
    tagged = path.read_bytes()
    assert tagged.count(b"Lavf") == 1
    path.write_bytes(tagged.replace(b"Lavf", b"\xe1(vf"))
    assert len(read_video(path).frames) == 6
