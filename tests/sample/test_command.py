"""`python sample.py` as a user types it: good and bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import ball, mini_weights

from viewtime.cli import run_command
from viewtime.configs.schema.sample import PlanOptions, SampleConfig, SamplerOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.run_folder import start_run
from viewtime.sample.pipeline import Pipeline
from viewtime.sample.run_place import check_place, run_folder_of
from viewtime.video import write_gif, write_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return mini_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def command(weights, tmp_path, capsys):
    """Run with the small model into tmp_path/out; (exit code, stdout, stderr)."""

    def run(video, *arguments):
        argv = [
            "--video",
            str(video),
            "--weights",
            str(weights),
            "--out",
            str(tmp_path / "out"),
            "--sampler.steps",
            "2",
        ]
        code = run_command("sample", [*argv, *map(str, arguments)], prog="sample.py")
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


def one_line(stderr, *words):
    lines = [line for line in stderr.splitlines() if line.startswith("sample.py: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert word in lines[0]


def test_a_video_becomes_a_grid(command, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(), 10.0)
    code, out, _ = command(video, "--save", "mp4", "gif", "png", "--dnerf", "--stream", "--views", 3)
    assert code == 0
    for path in out.split():
        assert Path(path).exists()
    grid = FrameGrid.load(tmp_path / "out" / "grid_png")
    assert grid.shape == (4, 7, 4, 16, 16)
    assert grid.known[0].all()
    assert grid.fps == 10.0
    assert grid.cameras is not None
    assert torch.allclose(grid.cameras.azimuth[:, 0], torch.tensor([0.0, 90.0, 180.0, 270.0]))
    assert len(grid.provenance["input"]["crops"]) == 7
    assert FrameGrid.load(tmp_path / "out" / "grid").shape == grid.shape
    stream = sorted((tmp_path / "out" / "stream").rglob("*.png"))
    assert len(stream) == 3 * 7
    assert not (tmp_path / "out" / "windows").exists()
    assert (tmp_path / "out" / "dnerf" / "transforms_train.json").is_file()


def test_the_weight_file_says_how_it_is_sampled(tmp_path):
    file = mini_weights(tmp_path, plan="independent", plan_frames=2, steps=3, shift=0.5, frame_noise="shared")
    pipe = Pipeline.from_pretrained(file, device="cpu")
    job = pipe.prepare(ball(9), views=3)
    assert job.plan.name == "independent"
    assert max(len(window.frames) for window in job.plan.windows) == 2
    assert job.settings.schedule.steps == 3
    noise = job.settings.noise(0, [1], [0, 4], (2,))
    assert torch.equal(noise[0, 0], noise[0, 1])
    other = pipe.prepare(ball(5), views=3, plan=PlanOptions(kind="joint"), sampler=SamplerOptions(steps=2))
    assert (other.plan.name, len(other.plan.windows), other.settings.schedule.steps) == ("joint", 1, 2)


def test_an_alpha_range_decides_what_is_half_transparent_and_keeps_colours_and_the_input(tmp_path):
    plain, firm = (
        Pipeline.from_pretrained(mini_weights(tmp_path, steps=1, alpha_range=stretched), device="cpu")(
            ball(2), views=3, seed=0
        ).frames
        for stretched in ((0.0, 1.0), (0.3, 0.5))
    )
    torch.testing.assert_close(firm[1:, :, 3], ((plain[1:, :, 3] - 0.3) * 5).clamp(0, 1), atol=0.02, rtol=0)
    assert (firm[1:, :, 3] - plain[1:, :, 3]).abs().max() > 0.1
    torch.testing.assert_close(firm[:, :, :3], plain[:, :, :3])
    torch.testing.assert_close(firm[0], plain[0])


def test_an_alpha_range_that_cannot_be(command, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(), 10.0)
    code, _, err = command(video, "--sampler.alpha-range", 0.5, 0.5)
    assert code == 1
    one_line(err, "--sampler.alpha-range 0.5 0.5", "below the second")


def test_inputs_that_are_no_video(command, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video at all\n" * 50)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, words in ((tmp_path / "none.mp4", ["no such video"]), (text, ["not a video"]), (empty, ["empty"])):
        code, _, err = command(path)
        assert code == 1
        one_line(err, *words)


def test_half_a_video_is_used_as_far_as_it_goes(command, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    clip = np.where(ball(40, 64, 64) == 255, 255, noise).astype(np.uint8)
    whole = write_video(tmp_path / "whole.mp4", clip, 10.0)
    # An MPEG transport stream has no index at its end, so that a part of it decodes.
    stream = tmp_path / "whole.ts"
    import av

    with av.open(str(whole)) as source, av.open(str(stream), "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)
    half = tmp_path / "half.ts"
    half.write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])
    code, _, _ = command(half, "--views", 1)
    assert code == 0
    assert 1 <= FrameGrid.load(tmp_path / "out" / "grid").shape[1] < 40
    shutil.rmtree(tmp_path / "out")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, _, err = command(cut)
    if code:
        one_line(err, "cut.mp4")


def test_all_background(command, tmp_path):
    code, _, err = command(write_video(tmp_path / "white.mp4", np.full((3, 32, 32, 3), 255, np.uint8), 10.0))
    assert code == 1
    one_line(err, "no visible object", "--preprocess")


def test_odd_shapes(command, tmp_path):
    """One frame, odd sizes, greyscale images, RGBA, a large picture; one view."""
    write_image(tmp_path / "grey" / "0.png", ball(1, 33, 21)[0, ..., :1])
    rgba = tmp_path / "rgba"
    for index, frame in enumerate(ball(2, 31, 45, channels=4, background=0)):
        write_image(rgba / f"{index}.png", frame)
    write_gif(tmp_path / "ball.gif", ball(3), 10.0)
    write_image(tmp_path / "large" / "0.png", ball(1, 3000, 4000)[0])
    for source in ("grey", "rgba", "ball.gif", "large"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        code, _, err = command(tmp_path / source, "--views", 1)
        assert code == 0, err
        grid = FrameGrid.load(tmp_path / "out" / "grid")
        assert grid.shape[0] == 2
        alpha = grid.alpha()
        assert alpha is not None
        assert 0.1 < float(alpha[0].mean()) < 0.9


def test_options_that_do_not_fit(command, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(4), 10.0)
    trajectory = tmp_path / "path.json"
    trajectory.write_text(json.dumps({"azimuth": [0, 90]}))
    short = tmp_path / "short.json"
    short.write_text(json.dumps({"azimuth": [0, 90], "elevation": 0}))
    cases = {
        ("--views", 9): ["9 novel views", "at most 3", "autoregressive"],
        ("--views", 0): ["at least 1"],
        ("--frames", 0): ["at least 1"],
        ("--camera.trajectory", trajectory): ["lacks the key 'elevation'"],
        ("--camera.trajectory", short): ["shape (2,)", "4 rows"],
        ("--camera.trajectory", tmp_path / "none.json"): ["no such trajectory"],
        ("--camera.elevation", 100): ["between -90 and 90"],
        ("--plan.kind", "joint", "--plan.window-frames", 2): ["do not fit into one window"],
        ("--size", 32): ["16 pixels"],
        ("--size", 0): ["--size 0", "at least 1"],
        ("--size", -16): ["--size -16", "at least 1"],
        ("--model", "sv4d"): ["holds mini, not sv4d"],
        ("--weights", "sv4d2", "--offline"): ["huggingface.co/stabilityai/sv4d2.0", "License"],
        ("--weights", video): ["safetensors"],
        ("--memory.chunk", 0): ["at least 1"],
        ("--reference.orbit", tmp_path / "none"): ["no such video"],
        ("--preprocess.fps", -1): ["must be positive"],
    }
    for arguments, words in cases.items():
        code, _, err = command(video, *arguments)
        assert code == 1, arguments
        one_line(err, *words)


def test_output_that_cannot_be_written(command, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(2), 10.0)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    code, _, err = command(video, "--out", blocked)
    assert code == 1
    one_line(err, "is a file")
    code, _, err = command(video, "--out", blocked / "below")
    assert code == 1
    one_line(err, "cannot make the folder")


def test_longer_videos_and_more_views_by_sliding_windows(command, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(11), 10.0)
    code, _, err = command(video, "--views", 6, "--plan.kind", "autoregressive")
    assert code == 0, err
    assert FrameGrid.load(tmp_path / "out" / "grid").shape[:2] == (7, 11)


@pytest.mark.parametrize("orbit", ["dynamic", "spiral"])
def test_moving_cameras(command, tmp_path, orbit):
    video = write_video(tmp_path / "ball.mp4", ball(5), 10.0)
    code, _, _ = command(video, "--views", 2, "--camera.orbit", orbit, "--camera.turn", 40)
    assert code == 0
    cameras = FrameGrid.load(tmp_path / "out" / "grid").cameras
    assert cameras is not None
    assert torch.allclose(cameras.azimuth[1], 120 + torch.linspace(0, 40, 5), atol=1e-3)
    assert torch.equal(cameras.azimuth[0], torch.zeros(5))
    assert (cameras.elevation[1].max() > 20) == (orbit == "spiral")


def test_show_plan_samples_nothing(command, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(11), 10.0)
    code, out, _ = command(video, "--show-plan")
    assert code == 0
    assert "plan sv4d2: 4 views × 11 frames" in out
    assert (tmp_path / "out" / "plan.png").is_file()
    assert not (tmp_path / "out" / "grid").exists()


LAUNCHERS = {
    "alone": [],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    # accelerate starts several processes on one machine only under this name; they compute where --device says.
    "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                   "--mixed_precision", "no", "--dynamo_backend", "no"],
}  # fmt: skip


def sample_process(video, weights, out, *arguments, by="alone", **popen):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, *LAUNCHERS[by]]
    options = ["--video", video, "--weights", weights, "--out", out, "--device", "cpu", *arguments]
    argv = [*launcher, str(ROOT / "sample.py"), *map(str, options)]
    return subprocess.Popen(argv, env=environment, cwd=out.parent, **popen)


@pytest.mark.slow
def test_two_processes_give_the_same_grid(weights, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(11), 10.0)
    options = ("--sampler.steps", 3, "--plan.kind", "interleaved", "--save", "png")
    for launcher in LAUNCHERS:
        process = sample_process(video, weights, tmp_path / launcher, *options, by=launcher)
        assert process.wait(timeout=300) == 0
    alone, *others = (FrameGrid.load(tmp_path / launcher / "grid_png") for launcher in LAUNCHERS)
    for other in others:
        assert (alone.frames - other.frames).abs().max() <= 1e-4


@pytest.mark.slow
def test_a_killed_run_resumes(weights, tmp_path):
    video = write_video(tmp_path / "ball.mp4", ball(11), 10.0)
    out = tmp_path / "out"
    options = ("--sampler.steps", 60, "--plan.window-frames", 2, "--save", "png")
    process = sample_process(video, weights, out, *options)
    while not (out / "windows" / "window_0001.safetensors").exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (out / "grid").exists()
    process = sample_process(video, weights, out, *options, stderr=subprocess.PIPE)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0
    assert b"resuming: " in stderr
    resumed = FrameGrid.load(out / "grid_png")
    shutil.rmtree(out)
    assert sample_process(video, weights, out, *options).wait(timeout=300) == 0
    assert torch.equal(resumed.frames, FrameGrid.load(out / "grid_png").frames)


def test_a_users_video_in_the_runs_folder_stays(command, tmp_path):
    out = tmp_path / "out"
    for name in ("grid/in.mp4", "windows/in.mp4", "dnerf/in.mp4", "diagonal.mp4", "stream/view_000/frame_0000.png"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        path = out / name
        write_video(path, ball(2), 8) if path.suffix == ".mp4" else write_image(path, ball(1)[0])
        before = path.read_bytes()
        code, _, stderr = command(path)
        assert code == 1
        one_line(stderr, "would be replaced by the run's results")
        assert path.read_bytes() == before
    shutil.rmtree(out)
    (out / "grid").mkdir(parents=True)
    (out / "grid" / "notes.txt").write_text("precious")
    code, _, stderr = command(write_video(tmp_path / "in.mp4", ball(2), 8))
    assert code == 1
    one_line(stderr, "viewtime did not write all of it: notes.txt")
    assert (out / "grid" / "notes.txt").read_text() == "precious"


def test_two_videos_of_one_name_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "in.mp4", ball(2), 8)
    folders = []
    for video in ("a/in.mp4", "b/in.mp4", "a/in.mp4", str(tmp_path / "b" / "in.mp4")):
        folder = run_folder_of(SampleConfig(video))
        folders.append(folder.as_posix())
        start_run(folder, "sample", SampleConfig(video))
    assert folders == ["outputs/in", "outputs/in-2", "outputs/in", "outputs/in-2"]


def test_another_videos_grid_is_not_overwritten(tmp_path):
    first, second = (write_video(tmp_path / name / "in.mp4", ball(2), 8) for name in "ab")
    out = tmp_path / "out"
    start_run(out, "sample", SampleConfig(str(first)))
    check_place(SampleConfig(str(second)), out)  # a start that failed
    FrameGrid(torch.zeros(1, 1, 3, 4, 4), torch.ones(1, 1, dtype=torch.bool)).save(out / "grid")
    check_place(SampleConfig(str(first)), out)
    with pytest.raises(UserError, match=r"holds the grid of another video, .*a/in\.mp4; choose another --out"):
        check_place(SampleConfig(str(second)), out)
    first.rename(tmp_path / "in.mp4")
    check_place(SampleConfig(str(tmp_path / "in.mp4")), out)


def test_a_stream_owed_by_a_killed_run_is_written_and_another_runs_goes(weights, tmp_path):
    video = write_video(tmp_path / "in.mp4", ball(3), 8)
    argv = ["--video", str(video), "--weights", str(weights), "--out", str(tmp_path / "out"), "--stream"]
    argv += ["--sampler.steps", "2", "--keep-windows", "--views", "2"]
    assert run_command("sample", argv, prog="sample.py") == 0
    written = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in (tmp_path / "out/stream").rglob("*.png")
    }
    assert len(written) == 6
    for name in list(written)[::2]:
        (tmp_path / name).unlink()  # killed between a window and its pictures
    assert run_command("sample", argv, prog="sample.py") == 0
    again = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in (tmp_path / "out/stream").rglob("*.png")
    }
    assert again == written
    assert run_command("sample", [*argv, "--frames", "2"], prog="sample.py") == 0
    assert len(list((tmp_path / "out/stream").rglob("*.png"))) == 4


def test_kept_windows_serve_the_same_job_alone(weights, tmp_path):
    pipe = Pipeline.from_pretrained(weights)
    video = ball(2)
    options = {"views": 1, "num_inference_steps": 1}
    whole = pipe(video, **options).frames
    pipe(video[::-1].copy(), **options, folder=tmp_path / "kept")
    assert torch.equal(pipe(video, **options, folder=tmp_path / "kept").frames, whole)
    assert not torch.equal(pipe(video, **{**options, "num_inference_steps": 2}, folder=tmp_path / "kept").frames, whole)
