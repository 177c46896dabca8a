import numpy as np
import pytest
from PIL import Image

from viewtime.errors import UserError
from viewtime.video import read_video, write_gif, write_video


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
    import av

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
