"""Every file format that users hand to viewtime: a small whole example, and what reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from tests.hostile.asset_formats import ASSET_FORMATS
from viewtime.cameras import regular_orbit
from viewtime.configs.load import load_preset
from viewtime.configs.overrides import parse_overrides
from viewtime.configs.schema.train import TrainConfig
from viewtime.data.samples import generator_for
from viewtime.data.sources import Consumer
from viewtime.data.stored.encode import encode_grid
from viewtime.data.stored.shard_source import ShardSource, read_record
from viewtime.data.stored.shards import read_index, read_sample, write_shard
from viewtime.dnerf import open_grid, write_dnerf
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.image_files import read_animation
from viewtime.recon.assets import load_asset
from viewtime.recon.export.mesh_file import load_mesh, save_mesh
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.point_files import read_points
from viewtime.recon.surface.mesh import MovingMesh
from viewtime.sample.plan.trajectory import read_trajectory
from viewtime.video import read_video, write_video
from viewtime.weight_header import open_weights
from viewtime.weights import read_header, read_tensors, save_weights


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file: name of the file that is damaged, below the folder that `write` fills.
        write: makes the whole example in a folder.
        read: reads the folder as a command would.
        text: JSON or YAML, of which values are damaged; otherwise bytes are.
    """

    file: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    text: str = ""


def grid(alpha: bool = True) -> FrameGrid:
    frames = torch.rand(2, 3, 4 if alpha else 3, 12, 16, generator=torch.Generator().manual_seed(0))
    return FrameGrid(
        frames, torch.zeros(2, 3, dtype=torch.bool), regular_orbit(2, 3), 12.0, {"asset": "a", "times": [0, 1, 2]}
    )


def one_sample(folder: Path) -> None:
    grid().save(folder / "g", lossless=True)
    members = encode_grid(folder / "g", "g", resolution=None, quality=28, latents=None)
    write_shard(folder / "shard-000000.tar", [("000000_g", members)])


def draw(folder: Path) -> None:
    ShardSource(str(folder), 2, 2).draw(Consumer(0), 0, generator_for(0))


def draw_walked(folder: Path) -> None:
    (folder / "shard-000000.json").unlink(missing_ok=True)
    draw(folder)


def meta(folder: Path) -> None:
    one_sample(folder)
    shard = folder / "shard-000000.tar"
    (folder / "meta.json").write_bytes(read_sample(shard, read_index(shard).entries[0])["meta.json"])


def draw_with_meta(folder: Path) -> None:
    """The sample packed again with the damaged record, drawn as training does."""
    shard = folder / "shard-000000.tar"
    (folder / "shard-000000.json").unlink(missing_ok=True)
    members = read_sample(shard, read_index(shard).entries[0])
    write_shard(
        folder / "again" / "shard-000000.tar", [("a", {**members, "meta.json": (folder / "meta.json").read_bytes()})]
    )
    read_record({"meta.json": (folder / "meta.json").read_bytes()})
    draw(folder / "again")


def asset(folder: Path) -> None:
    gaussians = GaussianAsset(
        torch.rand(2, 5, 3), torch.full((5, 1), 0.01), torch.full((5,), 0.5), torch.rand(5, 3),
        torch.eye(3).repeat(2, 5, 1, 1), 12.0, {"fov_y": 33.8, "distance": 2.0, "elevation": 12.0, "size": [16, 16]},
    )  # fmt: skip
    gaussians.save(folder)
    vertices = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    triangles = np.array([[0, 1, 2], [1, 2, 3]])
    save_mesh(MovingMesh(vertices, triangles, np.zeros((4, 3), np.float32), 12.0), folder)


def see(folder: Path) -> None:
    load_asset(folder).render_grid(regular_orbit(1, 1), 8, 8)
    load_mesh(folder)


def points(folder: Path, name: str) -> None:
    table = np.random.default_rng(0).random((20, 3))
    if name == "p.npy":
        np.save(folder / name, table)
    elif name == "p.npz":
        np.savez(folder / name, positions=table, colours=table)
    else:
        rows = "".join(f"{x:.4f} {y:.4f} {z:.4f} 1 2 3\n" for x, y, z in table)
        header = "ply\nformat ascii 1.0\nelement vertex 20\nproperty float x\nproperty float y\nproperty float z\n"
        header += "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
        (folder / name).write_text(header + rows)


def image(folder: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 12, 16, 3), dtype=np.uint8)
    pictures = [Image.fromarray(frame) for frame in pixels]
    several = {"save_all": True, "append_images": pictures[1:]} if name.endswith(("gif", "webp", "tiff", "png")) else {}
    pictures[0].save(folder / name, **several)


def film(folder: Path) -> None:
    write_video(folder / "in.mp4", np.random.default_rng(0).random((4, 16, 16, 3)), 12.0)


def weights(folder: Path) -> None:
    save_weights(
        folder / "w.safetensors", {"a": torch.rand(3, 4), "b": torch.zeros(2).bfloat16()}, {"model": {"name": "x"}}
    )


def read_weights(folder: Path) -> None:
    read_header(folder / "w.safetensors")
    list(read_tensors(open_weights(folder / "w.safetensors")))


def weights_header(folder: Path) -> None:
    """The header by itself, as JSON; `read_headed` puts it in front of the tensors again."""
    weights(folder)
    data = (folder / "w.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    (folder / "header.json").write_bytes(data[8 : 8 + length].strip())
    (folder / "tensors").write_bytes(data[8 + length :])


def read_headed(folder: Path) -> None:
    text = (folder / "header.json").read_bytes()
    (folder / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + (folder / "tensors").read_bytes())
    read_weights(folder)


def train_config(folder: Path) -> None:
    (folder / "c.yaml").write_text(yaml.safe_dump({"command": "train", **load_preset("mini-debug", "train")}))


def options(folder: Path) -> None:
    """Values of a command line, as a JSON list of (key, value)."""
    values = {
        "stages.0.lr": 1e-3, "stages.0.steps": 3, "seed": 1, "loss.kind": "flow", "model.config.size": 16,
        "data.options.views": 3, "ema.lengths": "[0.1]", "validation.every_steps": 0, "checkpoint.keep_last": 2,
        "optimizer.name": "adamw", "max_seconds": 10, "stages.0": "{name: a, lr: 1e-3, batch_size: 1, steps: 2}",
    }  # fmt: skip
    (folder / "o.json").write_text(json.dumps([[key, value] for key, value in values.items()]))


def read_options(folder: Path) -> None:
    argv = ["--config", "mini-debug"]
    try:
        items = json.loads((folder / "o.json").read_bytes())
    except (ValueError, RecursionError) as error:  # the list is this test's own, not a file of ours
        raise UserError("no list of options") from error
    for item in items if isinstance(items, list) else [items]:
        key, value = item if isinstance(item, list) and len(item) == 2 else ("seed", item)
        argv += [f"--{key}", str(value)]
    parse_overrides(TrainConfig, argv, "train")


FORMATS = {
    "grid.json": Format(
        "g/grid.json", lambda f: grid().save(f / "g", lossless=True), lambda f: open_grid(f / "g"), "json"
    ),
    "grid.json of videos": Format("g/grid.json", lambda f: grid().save(f / "g"), lambda f: open_grid(f / "g"), "json"),
    "grid's PNG": Format(
        "g/view_001/frame_001.png", lambda f: grid().save(f / "g", lossless=True), lambda f: open_grid(f / "g")
    ),
    "grid's cells": Format("g/cells_001.mkv", lambda f: grid().save(f / "g"), lambda f: open_grid(f / "g")),
    "transforms": Format(
        "g/transforms_train.json", lambda f: write_dnerf(grid(), f / "g"), lambda f: open_grid(f / "g"), "json"
    ),
    "trajectory": Format(
        "t.json",
        lambda f: (f / "t.json").write_text(json.dumps(regular_orbit(2, 3).to_json())),
        lambda f: read_trajectory(f / "t.json", 2, 3),
        "json",
    ),
    "shard index": Format("shard-000000.json", one_sample, draw, "json"),
    "shard": Format("shard-000000.tar", one_sample, draw),
    "shard without index": Format("shard-000000.tar", one_sample, draw_walked),
    "meta.json": Format("meta.json", meta, draw_with_meta, "json"),
    "asset.json": Format("asset.json", asset, see, "json"),
    "asset's Gaussians": Format("gaussians.safetensors", asset, see),
    "asset's mesh": Format("mesh.safetensors", asset, see),
    "points.npy": Format("p.npy", lambda f: points(f, "p.npy"), lambda f: read_points(f / "p.npy")),
    "points.npz": Format("p.npz", lambda f: points(f, "p.npz"), lambda f: read_points(f / "p.npz")),
    "points.ply": Format("p.ply", lambda f: points(f, "p.ply"), lambda f: read_points(f / "p.ply")),
    **{
        f"image.{kind}": Format(
            f"i.{kind}", lambda f, k=kind: image(f, f"i.{k}"), lambda f, k=kind: read_animation(f / f"i.{k}")
        )
        for kind in ("png", "jpg", "webp", "gif", "tiff", "bmp")
    },
    "video": Format("in.mp4", film, lambda f: read_video(f / "in.mp4", 50)),
    "weights": Format("w.safetensors", weights, read_weights),
    "weights' header": Format("header.json", weights_header, read_headed, "json"),
    "config": Format(
        "c.yaml", train_config, lambda f: parse_overrides(TrainConfig, ["--config", str(f / "c.yaml")], "t"), "yaml"
    ),
    "options": Format("o.json", options, read_options, "json"),
    **{name: Format(*whole) for name, whole in ASSET_FORMATS.items()},
}
