"""What is said before a run samples: counts, the card's estimate, a stride for long videos, the time left."""

import inspect
from pathlib import Path

import pytest
from small_models import ball, mini_weights, published_weights

from viewtime.cli import run_command
from viewtime.configs.schema.app import AppConfig
from viewtime.configs.schema.reconstruct import DirectOptions
from viewtime.configs.schema.sample import MemoryOptions, PreprocessOptions, SampleConfig, SamplerOptions
from viewtime.log import Bar
from viewtime.sample import first_words as words
from viewtime.sample.pipeline import Pipeline
from viewtime.video import Video, write_video


@pytest.fixture
def pipe(tmp_path):
    return Pipeline.from_pretrained(mini_weights(tmp_path), device="cpu")


def said(pipe, job, memory=None):
    return words.first_words(pipe, job, "mini", Path("preview.png"), memory)


def test_windows_and_steps_are_said(pipe):
    job = pipe.prepare(ball(11), views=3, sampler=SamplerOptions(steps=7))
    lines = said(pipe, job)
    assert any("4 views (the input and 3 new ones) × 11 frames" in line for line in lines)
    assert any("3 windows, 21 sampling steps" in line for line in lines)
    assert not any("a long video" in line for line in lines)


def test_a_long_video_is_offered_a_stride_that_makes_it_short(pipe, monkeypatch):
    monkeypatch.setattr(words, "MANY_WINDOWS", 4)
    job = pipe.prepare(Video(ball(33), 30.0), views=3)
    (offer,) = [line for line in said(pipe, job) if line.startswith("a long video")]
    rate = offer.split("--preprocess.fps ")[1].split()[0]
    assert float(rate) == 7.5
    shorter = pipe.prepare(Video(ball(33), 30.0), views=3, preprocess=PreprocessOptions(fps=float(rate)))
    assert (job.plan.problem.frames, shorter.plan.problem.frames) == (33, 8)
    assert (len(job.plan.windows), len(shorter.plan.windows)) == (8, 2)
    assert not any(line.startswith("a long video") for line in said(pipe, shorter))


@pytest.mark.parametrize("form", ["file", "video", "array"])
def test_frames_are_counted_at_the_rate_asked_for_and_what_is_left_out_is_said(pipe, tmp_path, form):
    """Five frames of 24 at 12 a second are the first 0.42 of two seconds; at 2.5 a second they are the whole film."""
    source = {
        "file": lambda: write_video(tmp_path / "in.mp4", ball(24), 12.0),
        "video": lambda: Video(ball(24), 12.0),
        "array": lambda: ball(24),
    }[form]()
    beginning = pipe.prepare(source, frames=5).prepared
    assert beginning.source_frames == (0, 1, 2, 3, 4)
    assert len(beginning.notes) == 1 + (form == "array")
    offer = beginning.notes[-1]
    assert offer.startswith("the first 0.42 of the video's 2 seconds are used")
    rate = float(offer.split("--preprocess.fps ")[1].split()[0])
    spread = pipe.prepare(source, frames=5, preprocess=PreprocessOptions(fps=rate)).prepared
    assert spread.source_frames == (2, 7, 12, 16, 21)
    untimed = ("frames as an array have no frame rate: 12 a second are taken for it",) if form == "array" else ()
    assert spread.notes == untimed
    assert pipe.prepare(source, frames=24).prepared.notes == untimed


def test_the_cards_estimate_is_that_of_the_chosen_model(tmp_path):
    pipe = Pipeline.from_pretrained(published_weights(tmp_path, "sv4d2-debug", name="sv4d2"), device="cpu")
    job = pipe.prepare(ball(3))
    card = MemoryOptions(card=24, chunk=4)
    (line,) = [line for line in said(pipe, job, card) if line.startswith("memory")]
    assert "sv4d2 takes" in line
    assert "of 24" in line
    assert "less for 64" in line
    assert not any(line.startswith("memory") for line in said(pipe, job))


def test_the_time_left_is_said_after_the_first_step(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("viewtime.log.time.monotonic", lambda: clock[0])
    bar = Bar("sampling steps", 50)
    clock[0] = 4.0
    bar.advance(1)
    assert "sampling steps: 1/50, 196 s left" in capsys.readouterr().err
    quick = Bar("sampling steps", 5)
    clock[0] = 4.5
    quick.advance(1)
    assert capsys.readouterr().err == ""


def test_inputs_are_looked_at_before_weights_are_read(tmp_path, monkeypatch, capsys):
    """A video that is none stops the run although the weights, which are good, were never opened."""
    opened = []
    monkeypatch.setattr("viewtime.sample.pipeline.load_model", lambda *args, **kwargs: opened.append(args))
    weights, bad = mini_weights(tmp_path), tmp_path / "in.mp4"
    bad.write_text("no film")
    out = tmp_path / "out"
    good = write_video(tmp_path / "good.mp4", ball(3), 10.0)
    cases = [
        ["--video", bad, "--weights", weights],
        ["--video", good, "--weights", weights, "--reference.orbit", bad],
        ["--video", good, "--weights", weights, "--upsampler", tmp_path / "none.safetensors"],
    ]
    for arguments in cases:
        assert run_command("sample", [*map(str, arguments), "--out", str(out)], prog="sample.py") == 1
    assert not opened
    assert "Traceback" not in capsys.readouterr().err


def test_every_door_opens_on_the_model_that_takes_any_object():
    pipeline = inspect.signature(Pipeline.from_pretrained).parameters["name_or_file"].default
    named = {SampleConfig("in.mp4").weights, AppConfig().weights, DirectOptions().weights, pipeline}
    assert named == {"mini-generalist"}
