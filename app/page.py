"""The app's page: what is on it and which handler each part calls."""

from __future__ import annotations

from typing import Any

import gradio as gr

from viewtime.configs.schema.app import AppConfig
from viewtime.model.weight_names import KNOWS, SHIPPED

from . import stages
from .found import shown
from .handlers import CLICKS, Handlers

HELP = "Is the mask right? If not, click into the picture."


def make_page(config: AppConfig) -> gr.Blocks:
    """The page, with one heavy command at a time in its queue."""
    with gr.Blocks(title="viewtime", analytics_enabled=False) as page:
        gr.Markdown("# viewtime\nA video of one moving object in; a grid of views × time; a 4D asset out.")
        found = gr.State()
        with gr.Row():
            with gr.Column():
                video = gr.File(label="1  Drop a video, GIF or WebP", type="filepath", elem_id="video")
                earlier = gr.Dropdown(
                    stages.runs_in(config.out), value=None, label="or look at an earlier run", elem_id="earlier"
                )
                frames = gr.Slider(1, 60, config.frames, step=1, label="frames of the video to use", elem_id="frames")
                fps = gr.Slider(0, 30, 0, step=0.1, label="of them a second (0: as in the video)", elem_id="fps")
            with gr.Column(scale=2):
                picture = gr.Image(label=HELP, interactive=False, buttons=[], elem_id="picture")
                frame = gr.Slider(0, max(1, config.frames - 1), 0, step=1, label="frame", elem_id="frame")
                with gr.Row():
                    kind = gr.Radio(list(CLICKS), value=next(iter(CLICKS)), label="a click means", elem_id="kind")
                    undo = gr.Button("take the last click back", elem_id="undo")
                said = gr.Markdown(elem_id="said")
        with gr.Row():
            names = [(f"{name}: {KNOWS[name]}", name) for name in SHIPPED]
            own: dict[str, Any] = {"allow_custom_value": True, "scale": 3}
            weights = gr.Dropdown(names, value=config.weights, label="model", elem_id="weights", **own)
            views = gr.Number(0, label="new views (0: the model's)", precision=0, elem_id="views")
            steps = gr.Number(0, label="sampling steps (0: the model's)", precision=0, elem_id="steps")
            seed = gr.Number(0, label="seed", precision=0, elem_id="seed")
        with gr.Row():
            grid_button = gr.Button("2  Make the grid", variant="primary", elem_id="make-grid")
            methods = list(stages.METHODS)
            method = gr.Dropdown(methods, value=methods[0], label="how", elem_id="method", scale=2)
            asset_button = gr.Button("3  Make the asset", variant="primary", elem_id="make-asset")
            stop = gr.Button("cancel", variant="stop", elem_id="cancel")
        log = gr.Textbox(label="what the command says", lines=6, max_lines=14, elem_id="log")
        grid, player = gr.HTML(elem_id="grid-view"), gr.HTML(elem_id="player")
        files = gr.File(label="4  Downloads", file_count="multiple", interactive=False, elem_id="files")

        do = Handlers(config)
        queued: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "work", "show_progress": "minimal"}
        for change in (video.change, frames.release, fps.release):
            change(do.look, [video, frames, fps], [found, picture, said, frame, log, grid, player, files], **queued)
        frame.change(lambda state, at: shown(state, int(at)) if state else None, [found, frame], picture)
        picture.select(do.clicked, [found, frame, kind], [found, picture, said], **queued)
        undo.click(do.undone, [found, frame], [found, picture, said])
        chosen = [found, weights, views, steps, seed]
        grid_button.click(do.make_grid, chosen, [log, grid, files], **queued)
        asset_button.click(do.make_asset, [found, earlier, method, weights], [log, player, files], **queued)
        stop.click(do.cancelled, [found, earlier], queue=False)
        earlier.focus(lambda: gr.Dropdown(stages.runs_in(config.out)), None, earlier, queue=False)
        earlier.input(do.again, earlier, [grid, player, files])
    return page.queue()
