"""Films whose object is known: rendered characters that move before photographs and procedural scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from PIL import Image
from scipy import ndimage

from benchmarks.recon_clips import truth
from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.video import read_video, write_video

ARTIST = "animalworld"
FRAMES, FPS, HEIGHT, WIDTH = 12, 12.0, 360, 640
ROOM = 1.35  # of the background's size over the picture's, within which the camera moves
RENDERED = 320


@dataclass(frozen=True)
class Case:
    """One film: asset of the artist `ARTIST`, what is behind it, how the camera goes, the object's height.

    `goes` is how far the object crosses the picture, as a share of its width.
    """

    asset: str
    behind: str
    camera: str
    height: float
    goes: float


# The second set's assets and backgrounds are none of the first; which of network and motion draws an object that both
# find was chosen with it in sight. Nothing was chosen by the third.
SETS = {
    "tuned": (
        Case("Gnu", "coffee.png", "pan", 0.75, 0.1), Case("Hyena", "gravel.png", "hand", 0.6, 0.2),
        Case("Iguana", "planks", "hand", 0.5, 0.3), Case("Otter", "motorcycle_left.png", "hand", 0.5, 0.3),
        Case("Rat", "rough", "pan", 0.6, 0.2), Case("Robin", "room", "rest", 0.4, 0.4),
        Case("Shark", "lights", "hand", 0.7, 0.3), Case("Spider", "rocket.jpg", "rest", 0.6, 0.4),
    ),
    "held": (
        Case("Bear", "room", "hand", 0.7, 0.2), Case("Crab", "brick.png", "hand", 0.5, 0.3),
        Case("Fox", "grass.png", "pan", 0.5, 0.2), Case("Frog", "astronaut.png", "rest", 0.5, 0.3),
        Case("Goose", "rough", "hand", 0.6, 0.2), Case("Hare", "planks", "pan", 0.45, 0.3),
        Case("Lobster", "motorcycle_right.png", "hand", 0.6, 0.1), Case("Owl", "lights", "rest", 0.6, 0.3),
        Case("Panda", "chelsea.png", "hand", 0.6, 0.3), Case("Tiger", "retina.jpg", "pan", 0.7, 0.1),
        Case("Toucan", "hubble_deep_field.jpg", "hand", 0.35, 0.4), Case("Tapir", "clouds", "rest", 0.8, 0.1),
    ),
    "fresh": (
        Case("Wolf", "coffee.png", "rest", 0.35, 0.15), Case("Kangaroo", "rocket.jpg", "hand", 0.6, 0.2),
        Case("Zebra2", "gravel.png", "pan", 0.6, 0.15), Case("Puffin", "motorcycle_left.png", "rest", 0.4, 0.2),
        Case("Yak", "lights", "hand", 0.6, 0.3), Case("Crocodile", "room", "rest", 0.35, 0.3),
        Case("Boar", "planks", "hand", 0.5, 0.1), Case("Moose", "chelsea.png", "pan", 0.65, 0.3),
    ),
}  # fmt: skip


def film_of(case: Case, number: int, assets: Path, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames as a film keeps them, uint8 [F, H, W, 3], and the object's pixels, bool [F, H, W].

    Args:
        number: seed of what is random in the film.

    Raises:
        UserError: the asset is not there.
    """
    path = cache / f"{number:02d}_{case.asset}.mp4"
    masks = path.with_suffix(".npz")
    if not masks.is_file():
        source = assets / f"{ARTIST}__{case.asset}.glb"
        if not source.is_file():
            raise UserError(f"there is no {source}; name the folder of the assets with --assets")
        frames, inside = composed(case, source, np.random.default_rng(number))
        cache.mkdir(parents=True, exist_ok=True)
        write_video(path, frames, FPS, crf=24)
        np.savez_compressed(masks, masks=inside)
    return read_video(path).frames[..., :3], np.load(masks)["masks"]


def composed(case: Case, source: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The film before it is compressed: frames [F, H, W, 3] in [0, 1], masks bool [F, H, W]."""
    full = lambda value: np.full((1, FRAMES), value, np.float32)  # noqa: E731
    azimuth, elevation = float(rng.uniform(0, 360)), float(rng.uniform(0, 25))
    import torch

    cameras = Cameras(
        torch.from_numpy(full(elevation)), torch.from_numpy(full(azimuth)), torch.from_numpy(full(2.0)), 33.8
    )
    grid = truth(source, "", cameras, RENDERED)
    cells = grid.frames[0].permute(0, 2, 3, 1).numpy()
    side = round(case.height * HEIGHT / _fills(cells[..., 3]))
    scene = behind(case.behind, rng)
    frames, masks = [], []
    start = rng.uniform(0.3, 0.45) - case.goes / 4
    for index, (x0, y0) in enumerate(camera_path(case.camera, scene.shape[:2], rng)):
        frame = scene[y0 : y0 + HEIGHT, x0 : x0 + WIDTH].copy()
        centre = (start + case.goes * index / (FRAMES - 1), 0.52)
        left, top = round(centre[0] * WIDTH - side / 2), round(centre[1] * HEIGHT - side / 2)
        cell = _resized(cells[index], (side, side))
        layer = np.zeros((HEIGHT, WIDTH, 4), np.float32)
        y, x, h, w = max(0, top), max(0, left), min(HEIGHT, top + side), min(WIDTH, left + side)
        layer[y:h, x:w] = cell[y - top : h - top, x - left : w - left]
        alpha = layer[..., 3:]
        shown = frame * (1 - alpha) + layer[..., :3] * alpha + rng.normal(0, 0.012, frame.shape)
        frames.append(shown.clip(0, 1))
        masks.append(alpha[..., 0] > 0.5)
    return np.stack(frames), np.stack(masks)


def _fills(alpha: np.ndarray) -> float:
    """Share of a cell's side that the object spans at most."""
    seen = (alpha > 0.5).any(axis=0)
    return max(int(np.ptp(np.flatnonzero(seen.any(axis=axis)))) + 1 for axis in (0, 1)) / alpha.shape[-1]


def camera_path(kind: str, scene: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Left and top of the picture in the scene, for each frame: at rest, a pan, or a hand that shakes."""
    room_x, room_y = scene[1] - WIDTH, scene[0] - HEIGHT
    u = np.linspace(0, 1, FRAMES)
    if kind == "pan":
        x, y = 0.1 + 0.7 * u, np.full(FRAMES, 0.5)
    elif kind == "hand":
        phase = rng.uniform(0, 6)
        x = 0.5 + 0.25 * np.sin(4 * u + phase) + rng.normal(0, 0.01, FRAMES)
        y = 0.5 + 0.2 * np.cos(3 * u + phase) + rng.normal(0, 0.02, FRAMES)
    else:
        x = y = np.full(FRAMES, 0.5)
    return [(int(a * room_x), int(b * room_y)) for a, b in zip(x.clip(0, 1), y.clip(0, 1))]


def behind(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A scene larger than the picture, float32 [h, w, 3] in [0, 1]: a photograph of scikit-image's, or made here."""
    height, width = round(HEIGHT * ROOM), round(WIDTH * ROOM)
    if "." in kind:
        picture = Image.open(Path(skimage.__file__).parent / "data" / kind).convert("RGB")
        scale = max(width / picture.width, height / picture.height)
        size = (round(picture.width * scale), round(picture.height * scale))
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
        return pixels[:height, :width]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    tint = rng.uniform(0.5, 1.0, 3).astype(np.float32)
    if kind == "rough":
        return _waves((height, width), 1.0, rng)[..., None] * tint
    if kind == "clouds":
        return 0.4 + 0.6 * _waves((height, width), 1.8, rng)[..., None] * tint
    if kind == "planks":
        plank = (y // 70).astype(int)
        grain = np.sin(x / 23 + 5 * np.sin(y / 9 + plank) + 2.7 * plank) * 0.08 + rng.uniform(0.35, 0.6, 20)[plank]
        return np.where((y % 70 < 3)[..., None], 0.1, grain[..., None] * np.array([1.1, 0.8, 0.55])).astype(np.float32)
    if kind == "lights":
        scene = np.ones((height, width, 3), np.float32) * 0.15 * tint
        for _ in range(60):
            inside = (x - rng.uniform(0, width)) ** 2 + (y - rng.uniform(0, height)) ** 2 < rng.uniform(8, 45) ** 2
            scene[inside] += rng.uniform(0.05, 0.5, 3)
        return ndimage.gaussian_filter(scene, (4, 4, 0)).clip(0, 1)
    # A room: a wall with stripes, a tiled floor in perspective, boxes along the wall.
    depth = np.maximum(y - 0.55 * height, 1) / height
    tiles = (((x - width / 2) / depth / 300).astype(int) + (6 / depth).astype(int)) % 2
    scene = np.where((y > 0.55 * height)[..., None], 0.35 + 0.25 * tiles[..., None] * tint, 0.6 * tint)
    scene = scene + 0.06 * (x // 31 % 2)[..., None] * (y <= 0.55 * height)[..., None]
    for _ in range(6):
        left, top = rng.uniform(0, width), rng.uniform(0.25, 0.5) * height
        box = (x > left) & (x < left + rng.uniform(30, 90)) & (y > top) & (y < 0.6 * height)
        scene[box] = rng.uniform(0.1, 0.9, 3)
    return ndimage.gaussian_filter(scene, (1, 1, 0)).astype(np.float32)


def _waves(size: tuple[int, int], power: float, rng: np.random.Generator) -> np.ndarray:
    """Noise whose amplitude falls with frequency ** power, in [0, 1]."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.normal(size=size)) / frequency**power
    spectrum[0, 0] = 0.0
    noise = np.real(np.fft.ifft2(spectrum))
    low, high = np.percentile(noise, (1, 99))
    return ((noise - low) / (high - low)).clip(0, 1).astype(np.float32)


def _resized(cell: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """RGBA [h, w, 4] in [0, 1] scaled with its colours weighted by alpha, straight again."""
    weighted = np.concatenate([cell[..., :3] * cell[..., 3:], cell[..., 3:]], axis=-1)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(weighted[..., c])).resize(size, Image.Resampling.LANCZOS))
        for c in range(4)
    ]
    scaled = np.stack(planes, axis=-1)
    alpha = scaled[..., 3:].clip(0, 1)
    return np.concatenate([(scaled[..., :3] / np.maximum(alpha, 1e-3)).clip(0, 1), alpha], axis=-1)
