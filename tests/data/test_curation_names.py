"""No two inputs of curation share a name, an output, or a clip's verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gltf_builder import box_document, write_box, write_glb

from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.data.curation import command
from viewtime.data.curation.candidates import folder_candidates
from viewtime.data.curation.convert import converted_name
from viewtime.files import read_jsonl


def test_every_file_has_an_id_of_its_own(tmp_path: Path) -> None:
    names = ("a.glb", "a.fbx", "a.glb.glb", "b/a.glb", "b__a.glb", "._a.glb", "c.gltf")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    ids = [candidate.id for candidate in folder_candidates(tmp_path, "CC0")]
    assert sorted(ids) == ["a.fbx", "a.glb", "a.glb.glb", "b/a", "b__a", "c"]


def test_a_converted_file_belongs_to_one_asset_with_one_content(tmp_path: Path) -> None:
    for name, data in (("one", b"1"), ("two", b"2")):
        (tmp_path / name).write_bytes(data)
    one, two = tmp_path / "one", tmp_path / "two"
    names = {converted_name(id, path) for id in ("b/a", "b__a", "b_a") for path in (one, two)}
    assert len(names) == 6
    assert converted_name("b/a", one) == converted_name("b/a", one)
    assert all("/" not in name and name.endswith(".glb") for name in names)


def test_a_clip_that_cannot_be_played_is_listed_with_its_reason_and_the_good_one_kept(tmp_path: Path) -> None:
    document, binary = box_document(tmp_path, clips=("Good",))
    back = np.array([[2.0], [0.0]], np.float32)
    document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": back.nbytes})
    document["accessors"].append({"bufferView": 5, "componentType": 5126, "count": 2, "type": "SCALAR"})
    channels = [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]
    document["animations"].insert(0, {"name": "Bad", "channels": channels, "samplers": [{"input": 5, "output": 3}]})
    document["buffers"][0]["byteLength"] += back.nbytes
    write_glb(tmp_path / "assets" / "two.glb", document, binary + back.tobytes())
    write_box(tmp_path / "assets" / "other.glb", shift=3.0)
    limits = CurationLimits(min_pixel_motion=0.0)
    command.run(CurateConfig(str(tmp_path / "assets"), str(tmp_path / "out"), licence="CC0", workers=1, limits=limits))
    (row,) = (row for row in read_jsonl(tmp_path / "out" / "manifest.jsonl") if row["id"] == "two")
    assert row["decision"] == "keep"
    verdicts = {clip["name"]: (clip["decision"], clip["reason"]) for clip in row["clips"]}
    assert verdicts == {"Good": ("keep", ""), "Bad": ("reject", "unposed")}
    assert "go back" in next(clip["error"] for clip in row["clips"] if clip["name"] == "Bad")
