"""Another folder of the form of this one: other shapes, another prefix, outputs by our own networks in float64.

    python tests/golden/make_folder.py FOLDER [--prefix other:]
    VIEWTIME_GOLDEN=FOLDER VIEWTIME_GOLDEN_PREFIX=other: pytest tests/model -k golden

It proves that the tests read their shapes and their seeds from the folder and the prefix, and that float32 stays
within the tolerances at other shapes. It proves nothing about the published code: only this folder's own files do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
BATCH = 2
SHAPES = {
    "sv4d": (2, 3, 8, 12),
    "sv4d2": (4, 3, 8, 16),
    "sv4d2_8views": (5, 2, 8, 8),
    "sv3d_p": (4, 1, 8, 12),
    "svd": (1, 3, 12, 8),
}
"""Views, frames, height and width of the latents."""


def forward_case(golden, name: str) -> dict[str, np.ndarray]:
    """Inputs by the rule, and the output of our network in float64."""
    views, frames, height, width = SHAPES[name]
    config, rows = golden.NETWORKS[name], BATCH * views * frames
    grid_model = config.axes == "view-frame"

    def draw(key: str, *shape: int) -> np.ndarray:
        return golden.normal(f"input:{name}:{key}", shape)

    noise = np.repeat(np.log([3.7, 0.41]) / 4, rows // BATCH).astype(np.float32)
    data = {
        "x": draw("x", rows, 4, height, width),
        "concat": draw("concat", rows, 4, height, width),
        "t": noise,
        "vector": draw("vector", rows, config.vector_dim),
        "crossattn": draw("crossattn", *((BATCH, frames) if grid_model else (rows, 1)), config.context_dim),
        "T": np.array(frames if grid_model else rows // BATCH),
    }
    if grid_model:
        data["V"] = np.array(views)
        data["cond_view"] = draw("cond_view", BATCH * views, 4, height, width)
        return data | {"out": compute(golden, name, data, None)}
    flags = (np.arange(rows) % 3 == 0).astype(np.float32).reshape(BATCH, -1)
    return data | {
        "out": compute(golden, name, data, None),
        "image_only_indicator_b": flags,
        "out_b": compute(golden, name, data, flags),
    }


def compute(golden, name: str, data: dict[str, np.ndarray], image_only: np.ndarray | None) -> np.ndarray:
    """Output rows [N, 4, h, w] of the network in float64."""
    tensors = {key: torch.from_numpy(value).double() for key, value in data.items() if value.ndim}
    views = int(data.get("V", np.array(1)))
    cond = golden.conditioning(name, tensors, views, BATCH)
    if image_only is not None:
        cond["image_only"] = golden.image_only(name, torch.from_numpy(image_only))
    x, label = (golden.to_grid(name, tensors[key], views, BATCH) for key in ("x", "t"))
    out = golden.network(name).double()(x, label, cond)
    order = "b v f c h w -> (b f v) c h w"
    return golden.rearrange(out, order).float().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="other:")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["VIEWTIME_GOLDEN_PREFIX"] = options.prefix
    os.environ["VIEWTIME_GOLDEN"] = str(HERE)
    sys.path.insert(0, str(HERE.parent / "model"))
    import golden_files as golden

    from viewtime.model.conditioners.image_encoder import clip_preprocess

    with torch.no_grad():
        for name in SHAPES:
            shutil.copy(HERE / f"{name}.keys.json", options.folder)
            np.savez_compressed(options.folder / f"{name}.npz", **forward_case(golden, name))
            print(options.folder / f"{name}.npz", flush=True)
        image = np.clip(np.float32(0.5) * golden.normal("input:clip_pre:image", (1, 3, 300, 300)), -1, 1)
        # In float32 like the published code: its interpolation rounds coordinates, 1e-4 away from float64.
        out = clip_preprocess(torch.from_numpy(image)).numpy()
    np.savez_compressed(options.folder / "clip_preprocess.npz", size=np.array(300), out=out)
    print(options.folder / "clip_preprocess.npz")


if __name__ == "__main__":
    main()
