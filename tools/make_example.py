"""Make the files under examples/ from KayKit's Knight (CC0): a GLB with two clips, and a video of one of them.

    python tools/make_example.py path/to/Knight.glb

The clips are held out of mini's training (configs/families/kaykit.yaml).
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from pathlib import Path

from einops import rearrange

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.cli import main as viewtime  # noqa: E402
from viewtime.files import atomic_path  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402
from viewtime.video import write_video  # noqa: E402

CLIPS = ("Cheer", "Walking_A")
EQUIPMENT_LEFT_OUT = ("1H_Sword_Offhand", "Badge_Shield", "Round_Shield", "Spike_Shield", "2H_Sword")
VIDEO_SIZE = 256
# The grid that mini is trained to make: nine regular views, the object as large as it fits.
RENDER_OPTIONS = (
    *("--clips", "Cheer", "--engine", "gl", "--views", "9", "--frames", "12", "--framing.fit", "projected"),
    *("--framing.margin", "0.08", "--framing.elevation-min", "12", "--framing.elevation-max", "12"),
    *("--framing.base-fps", "7"),
)


def read_glb(path: Path) -> tuple[dict, bytes]:
    """JSON chunk and binary chunk of a GLB."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[20 + length + 8 :]


def write_glb(path: Path, document: dict, binary: bytes) -> None:
    """Write both chunks, padded to 4 bytes as the format asks."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    with atomic_path(path) as temporary:
        header = struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON")
        temporary.write_bytes(header + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary)


def keep_part(document: dict, binary: bytes) -> tuple[dict, bytes]:
    """Only the named clips and the worn equipment, and only the bytes that those use."""
    document["animations"] = [clip for clip in document["animations"] if clip["name"] in CLIPS]
    kept_meshes: list[dict] = []
    for node in document["nodes"]:
        if "mesh" not in node:
            continue
        mesh = document["meshes"][node.pop("mesh")]
        if node["name"] in EQUIPMENT_LEFT_OUT:
            node.pop("skin", None)
            continue
        node["mesh"] = len(kept_meshes)
        kept_meshes.append(mesh)
    document["meshes"] = kept_meshes
    used = [
        sampler[key] for clip in document["animations"] for sampler in clip["samplers"] for key in ("input", "output")
    ]
    primitives = [primitive for mesh in kept_meshes for primitive in mesh["primitives"]]
    used += [index for primitive in primitives for index in (*primitive["attributes"].values(), primitive["indices"])]
    used += [skin["inverseBindMatrices"] for skin in document["skins"]]
    accessors = {old: new for new, old in enumerate(sorted(set(used)))}
    images = [image["bufferView"] for image in document["images"]]
    views = sorted({document["accessors"][old]["bufferView"] for old in accessors} | set(images))
    packed, new_views = bytearray(), []
    for old in views:
        view = document["bufferViews"][old]
        start = view.get("byteOffset", 0)
        packed += b"\0" * (-len(packed) % 4)
        new_views.append({**view, "byteOffset": len(packed)})
        packed += binary[start : start + view["byteLength"]]
    for image in document["images"]:
        image["bufferView"] = views.index(image["bufferView"])
    document["accessors"] = [
        {**document["accessors"][old], "bufferView": views.index(document["accessors"][old]["bufferView"])}
        for old in accessors
    ]
    for clip in document["animations"]:
        clip["samplers"] = [
            {**s, "input": accessors[s["input"]], "output": accessors[s["output"]]} for s in clip["samplers"]
        ]
    for primitive in primitives:
        primitive["attributes"] = {name: accessors[old] for name, old in primitive["attributes"].items()}
        primitive["indices"] = accessors[primitive["indices"]]
    for skin in document["skins"]:
        skin["inverseBindMatrices"] = accessors[skin["inverseBindMatrices"]]
    document["bufferViews"], document["buffers"] = new_views, [{"byteLength": len(packed)}]
    return document, bytes(packed)


def film(asset: Path, path: Path) -> None:
    """The example video: view 0 of what `viewtime render` makes with RENDER_OPTIONS, at a higher resolution."""
    with tempfile.TemporaryDirectory() as folder:
        if viewtime(["render", str(asset), "--out", folder, "--size", str(VIDEO_SIZE), *RENDER_OPTIONS]) != 0:
            raise SystemExit(1)
        grid = FrameGrid.load(next(Path(folder).glob("grids/*")))
    write_video(path, rearrange(grid.rgb()[0], "f c h w -> f h w c").numpy(), grid.fps)


def main() -> int:
    """Write examples/knight.glb and examples/knight.mp4."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    asset = ROOT / "examples" / "knight.glb"
    write_glb(asset, *keep_part(*read_glb(Path(sys.argv[1]))))
    film(asset, ROOT / "examples" / "knight.mp4")
    for path in (asset, ROOT / "examples" / "knight.mp4"):
        print(f"{path} {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
