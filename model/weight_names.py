"""Weights by name: what ships, what is published, and what a model hub holds."""

from __future__ import annotations

import os
from pathlib import Path

import viewtime
from viewtime.errors import UserError
from viewtime.hub import SCHEME, HubFile, fetch, parse_reference

ASSETS = Path(viewtime.__file__).resolve().parent / "assets"
SHIPPED = {"mini": ASSETS / "mini.safetensors", "mini-generalist": ASSETS / "mini_generalist.safetensors"}
KNOWS = {
    "mini": "knows two small humanoids, a knight and a barbarian, and makes one of those of any other object",
    "mini-generalist": "knows the rough shape of any object",
    "sv4d": "knows any object: 8 views × 5 frames a window (SV4D)",
    "sv4d2": "knows any object: 4 views × 12 frames a window (SV4D 2.0)",
    "sv4d2-8views": "knows any object: 8 views × 5 frames a window (SV4D 2.0)",
    "sv3d-u": "knows any object at one instant (SV3D)",
    "sv3d-p": "knows any object at one instant (SV3D)",
    "svd-xt": "knows films of any kind, and no other views (SVD)",
    "4real": "knows what it was trained on (4Real-Video)",
}
LICENCE = "Stability AI Community License: accept it on the model's page; commercial use is limited"
PUBLISHED = {
    "sv4d": HubFile("stabilityai/sv4d", "sv4d.safetensors", licence=LICENCE),
    "sv4d2": HubFile("stabilityai/sv4d2.0", "sv4d2.safetensors", licence=LICENCE),
    "sv4d2-8views": HubFile("stabilityai/sv4d2.0", "sv4d2_8views.safetensors", licence=LICENCE),
    "sv3d-u": HubFile("stabilityai/sv3d", "sv3d_u.safetensors", licence=LICENCE),
    "sv3d-p": HubFile("stabilityai/sv3d", "sv3d_p.safetensors", licence=LICENCE),
    "svd-xt": HubFile("stabilityai/stable-video-diffusion-img2vid-xt", "svd_xt.safetensors", licence=LICENCE),
}


def find_weights(name_or_path: str, offline: bool = False) -> Path:
    """The weight file behind a name or a path; a published or a hub's name is downloaded into the hub's cache.

    Args:
        name_or_path: "mini-generalist", "mini", a file or folder, "sv4d2", "stabilityai/sv4d2.0", or
            `hf://OWNER/NAME@REVISION:FILE#sha256=…`.
        offline: download nothing.

    Raises:
        UserError: not there, gated, no network, or damaged.
    """
    if name_or_path in SHIPPED:
        path = SHIPPED[name_or_path]
        if not path.is_file():
            raise UserError(f"the weights of {name_or_path} are missing from this installation: {path}; reinstall it")
        return path
    path = Path(os.path.expanduser(name_or_path))
    if path.exists():
        return path
    wanted = published(name_or_path)
    if wanted is None and (name_or_path.startswith(SCHEME) or path.suffix not in (".safetensors", ".json", ".ckpt")):
        wanted = parse_reference(name_or_path)
    if wanted is not None:
        return fetch(wanted, offline)
    raise UserError(
        f"no such weights: {name_or_path}; give a .safetensors file, one of the names "
        f"{', '.join([*SHIPPED, *PUBLISHED])}, or hf://OWNER/NAME@REVISION:FILE.safetensors"
    )


def published(name: str) -> HubFile | None:
    """The published file that a name means: "sv4d2", "SV4D2.0", or the name of its repository."""
    known = name.lower().replace("_", "-").replace("2.0", "2")
    if known in PUBLISHED:
        return PUBLISHED[known]
    of_repo = [file for file in PUBLISHED.values() if file.repo == name.removeprefix(SCHEME)]
    return of_repo[0] if of_repo and of_repo[0].repo != PUBLISHED["sv3d-u"].repo else None


def what_it_knows(weights: str, name: str) -> str:
    """One line on a model: its name and what it can show.

    Args:
        weights: as the user named them.
        name: of the model in them.
    """
    shipped = next((known for known, file in SHIPPED.items() if weights in (known, str(file))), None)
    if shipped is not None:
        return f"viewtime-{shipped} {KNOWS[shipped]}"
    if name == "mini":
        return f"{weights} (mini) knows what it was trained on"
    return f"{weights} ({name}) {KNOWS.get(name, 'knows what it was trained on')}"
