"""Weight files of small random models, and videos, for the tests of pipelines and commands."""

from dataclasses import replace

import numpy as np
import torch

from viewtime.model.published.presets import load_model_config
from viewtime.model.registry import build_network, resolved_config
from viewtime.model.video_model import VideoModel
from viewtime.sample.models.video_grid_model import VideoGridModel
from viewtime.weights import save_weights

MINI = {"width": 32, "depth": 2, "head_dim": 16, "stem_widths": [8, 16], "size": 16}


def randomise(module):
    """Weights without zero layers, so that every input has an effect."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


def mini_weights(folder, **trained):
    network = randomise(build_network("mini", MINI))
    record = {
        "model": {"name": "mini", "config": resolved_config(network)},
        "trained": {"views": 4, "frames": 5, "elevation": 12.0, **trained},
    }
    return save_weights(folder / "tiny-mini.safetensors", network.state_dict(), record)


def published_weights(folder, preset, **changes):
    torch.manual_seed(0)
    config = replace(load_model_config(preset), **changes)
    return VideoGridModel(VideoModel(config), torch.device("cpu")).save(folder)


def ball(frames=7, height=40, width=48, channels=3, background=255):
    """A red ball that wanders over a plain background, uint8 [F, H, W, C]."""
    y, x = np.mgrid[:height, :width]
    clip = np.full((frames, height, width, channels), background, np.uint8)
    for index, frame in enumerate(clip):
        inside = (x - 0.35 * width - 0.5 * index) ** 2 + (y - 0.5 * height) ** 2 < (0.25 * height) ** 2
        frame[inside, :3] = [200, 30 + 10 * (index % 8), 40]
        if channels == 4:
            frame[..., 3] = inside * 255
    return clip
