"""What the buttons of the app's page do."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from viewtime.configs.schema.app import AppConfig
from viewtime.errors import UserError, machine_failure

from . import stages
from .commands import CancelledError, cancel, finished, perform
from .found import FoundObject, click_at, corrected, find, run_folder, save_masks, shown, words_on
from .server import FILES

CLICKS = {"only this is the object": "only", "this belongs to it too": "add", "this is not the object": "remove"}


@dataclass(frozen=True)
class Handlers:
    """Handlers of one server; what a page knows comes in as arguments.

    Each takes and returns values of the page's components, in the order that `page.make_page` gives.
    """

    config: AppConfig

    def look(self, path: str | None, count: int, fps: float) -> tuple:
        """A video was dropped, or other frames of it are wanted: find its object."""
        if not path:
            return None, None, "", gr.Slider(), "", "", "", None
        state = told(find, Path(path), int(count), fps or None)
        slider = gr.Slider(0, max(1, len(state.frames) - 1), 0, step=1)
        return state, shown(state, 0), words_on(state), slider, "", "", "", None

    def clicked(self, state: FoundObject | None, frame: int, kind: str, event: gr.SelectData) -> tuple:
        """A click into the picture corrects the mask."""
        before = dropped(state)
        after = told(corrected, before, click_at(before, int(frame), tuple(event.index), CLICKS[kind]))
        return after, shown(after, int(frame)), words_on(after)

    def undone(self, state: FoundObject | None, frame: int) -> tuple:
        """The last click is taken back."""
        state = dropped(state).without_last_click()
        return state, shown(state, int(frame)), words_on(state)

    def make_grid(self, state: FoundObject | None, weights: str, views: int, steps: int, seed: int) -> Iterator[tuple]:
        """`viewtime sample`."""
        state = dropped(state)
        run = run_folder(self.config.out, state.video)
        choice = stages.GridChoice(
            weights, state.asked, int(views or 0) or None, int(steps or 0) or None, int(seed or 0), state.fps,
            self.config.device, self.config.offline,
        )  # fmt: skip
        words = stages.sample_words(state.video, save_masks(state, run), run, choice)
        for text in told_along(work(run, "sample", words, stages.grid_results(run), "grid")):
            yield text, gr.skip(), gr.skip()
        yield gr.skip(), self.player(run, "grid"), stages.downloads(run)

    def make_asset(self, state: FoundObject | None, name: str | None, method: str, weights: str) -> Iterator[tuple]:
        """`viewtime reconstruct`."""
        run = self.chosen(state, name)
        words = stages.reconstruct_words(run, method, weights)
        for text in told_along(work(run, "reconstruct", words, stages.asset_results(run), "asset")):
            yield text, gr.skip(), gr.skip()
        yield gr.skip(), self.player(run, "asset"), stages.downloads(run)

    def again(self, name: str | None) -> tuple:
        """An earlier run was chosen: show what it made."""
        if name not in stages.runs_in(self.config.out):
            return "", "", None
        run = self.config.out / str(name)
        return self.player(run, "grid"), self.player(run, "asset"), stages.downloads(run)

    def cancelled(self, state: FoundObject | None, name: str | None) -> None:
        """Stop what is being made of this page's video."""
        if not cancel(self.chosen(state, name)):
            gr.Info("nothing is being made of this video")

    def chosen(self, state: FoundObject | None, name: str | None) -> Path:
        """The run folder of the page's video, else of the earlier run chosen there."""
        if state is not None:
            return run_folder(self.config.out, state.video)
        if name in stages.runs_in(self.config.out):
            return self.config.out / str(name)
        raise gr.Error("drop a video or choose an earlier run first", print_exception=False)

    def player(self, run: Path, kind: str) -> str:
        """The page that plays a run's grid or asset, inside this one; empty where there is none."""
        page = stages.page_of(run, kind)
        if not page.is_file():
            return ""
        # A page that was made anew has a new address.
        inside = quote(page.relative_to(self.config.out).as_posix())
        address = html.escape(f"{FILES}/{inside}?{page.stat().st_mtime_ns}")
        return f'<iframe src="{address}" style="width:100%;height:520px;border:0" title="{kind}"></iframe>'


def dropped(state: FoundObject | None) -> FoundObject:
    """The page's video; an error message where there is none yet."""
    if state is None:
        raise gr.Error("drop a video first", print_exception=False)
    return state


def work(run: Path, stage: str, words: list[str], results: list[Path], shows: str) -> Iterator[str]:
    """Run a stage and make the page that plays its result; nothing where both are there already."""
    page = stages.page_of(run, shows)
    if finished(run, stage, words, [*results, page]):
        yield f"{shows}: made before with these settings, and still there"
        return
    yield from perform(run, stage, words)
    yield from perform(run, f"page of {shows}", stages.page_words(run, shows))
    yield f"{shows}: done, in {run / shows}"


def told(action: Any, *arguments: Any) -> Any:
    """Call something; what a user can put right becomes the page's message, in the command line's words."""
    try:
        return action(*arguments)
    except Exception as error:
        raise as_message(error) from error


def told_along(texts: Iterator[str]) -> Iterator[str]:
    """As `told`, for what says more than once."""
    try:
        yield from texts
    except Exception as error:
        raise as_message(error) from error


def as_message(error: Exception) -> Exception:
    """The page's message of an error; unknown ones stay what they are."""
    known = error if isinstance(error, UserError) else machine_failure(error)
    if known is None:
        return error
    title = "Stopped" if isinstance(error, CancelledError) else "Error"
    return gr.Error(str(known), duration=None, title=title, print_exception=False)
