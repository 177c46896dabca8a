"""The objaverse: source against a local stand-in of the data set's files, over real HTTP."""

import gzip
import http.server
import json
import threading
import urllib.request

import pytest
from gltf_builder import write_box

from viewtime.configs.schema.curate import CurateConfig, CurationLimits
from viewtime.data.curation import command
from viewtime.data.curation.objaverse_source import read_ids
from viewtime.errors import UserError
from viewtime.files import read_jsonl

objaverse = pytest.importorskip("objaverse")
REMOTE = "https://huggingface.co/datasets/allenai/objaverse/resolve/main/"
HELD_OUT = "ba7b382c918b40e6b07011da4ff3ebc0"
ANNOTATIONS = {
    "moving": {"license": "by", "animationCount": 1, "faceCount": 12, "user": {"displayName": "Ann"}},
    "noncommercial": {"license": "by-nc", "animationCount": 1, "faceCount": 12},
    "static": {"license": "cc0", "animationCount": 0, "faceCount": 12},
    "missing_file": {"license": "cc0", "animationCount": 2, "faceCount": 12},
    HELD_OUT: {"license": "cc0", "animationCount": 1, "faceCount": 12},
}


class Redirect(urllib.request.HTTPSHandler):
    """Sends requests for the data set to the local server."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base, self.requested = base, []

    def https_open(self, request):
        assert request.full_url.startswith(REMOTE), f"asked for {request.full_url}"
        name = request.full_url.removeprefix(REMOTE)
        self.requested.append(name)
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.base + name)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A served copy of the data set's layout; the package's own cache lies in the test's folder."""
    served = tmp_path / "served"
    (served / "metadata").mkdir(parents=True)
    paths = {id: f"glbs/000-{number % 2:03d}/{id}.glb" for number, id in enumerate(ANNOTATIONS)}
    (served / "object-paths.json.gz").write_bytes(gzip.compress(json.dumps(paths).encode()))
    for part in ("000-000", "000-001"):
        rows = {id: {"uid": id, **row} for id, row in ANNOTATIONS.items() if part in paths[id]}
        (served / "metadata" / f"{part}.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    for id in set(ANNOTATIONS) - {"missing_file"}:
        write_box(served / paths[id])
    handler = lambda *arguments: http.server.SimpleHTTPRequestHandler(*arguments, directory=str(served))  # noqa: E731
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    redirect = Redirect(f"http://127.0.0.1:{server.server_port}/")
    before = urllib.request._opener  # type: ignore[attr-defined]
    urllib.request.install_opener(urllib.request.build_opener(redirect))
    monkeypatch.setattr(objaverse, "BASE_PATH", str(tmp_path / "cache"))
    monkeypatch.setattr(objaverse, "_VERSIONED_PATH", str(tmp_path / "cache" / "hf-objaverse-v1"))
    yield redirect
    urllib.request.install_opener(before)  # type: ignore[arg-type]
    server.shutdown()
    server.server_close()


def curate(tmp_path, ids: list[str], **options):
    config = CurateConfig(
        "objaverse:" + ",".join(ids),
        out=str(tmp_path / "out"),
        workers=1,
        limits=CurationLimits(min_pixel_motion=0.0),
        **options,
    )
    command.run(config)
    return {row["id"]: row for row in read_jsonl(tmp_path / "out" / "manifest.jsonl")}


def test_annotations_decide_first_and_only_what_may_pass_is_downloaded(tmp_path, remote):
    rows = curate(tmp_path, [*ANNOTATIONS, "nobody_knows"])
    verdicts = {id: (row["decision"], row["stage"], row["reason"]) for id, row in rows.items()}
    assert verdicts == {
        "moving": ("keep", "", ""),
        "noncommercial": ("reject", "licence", "not_allowed"),
        "static": ("reject", "frames", "no_animation"),
        "missing_file": ("failed", "fetch", "not_available"),
        HELD_OUT: ("reject", "heldout", "consistent4d_test"),
        "nobody_knows": ("reject", "licence", "unknown_licence"),
    }
    assert rows["moving"]["author"] == "Ann"
    assert rows["moving"]["licence_family"] == "CC-BY"
    downloaded = [name for name in remote.requested if name.startswith("glbs/")]
    assert sorted(downloaded) == ["glbs/000-000/moving.glb", "glbs/000-001/missing_file.glb"]


def test_a_failed_download_is_tried_again_and_a_good_one_is_not(tmp_path, remote):
    curate(tmp_path, ["moving", "missing_file"])
    write_box(tmp_path / "served" / "glbs" / "000-001" / "missing_file.glb", shift=3.0)
    remote.requested.clear()
    rows = curate(tmp_path, ["moving", "missing_file"])
    assert rows["missing_file"]["decision"] == "keep"
    assert [name for name in remote.requested if name.startswith("glbs/")] == ["glbs/000-001/missing_file.glb"]


def test_too_many_failed_downloads_fail_the_command(tmp_path, remote):
    with pytest.raises(UserError, match="1 of 2 assets could not be had; limit 10%"):
        curate(tmp_path, ["moving", "missing_file"], max_failed_share=0.1)


def test_damaged_annotations_name_the_way_out(tmp_path, remote):
    cache = tmp_path / "cache" / "hf-objaverse-v1"
    cache.mkdir(parents=True)
    (cache / "object-paths.json.gz").write_bytes(b"half a download")
    with pytest.raises(UserError, match="cannot get Objaverse's annotations"):
        curate(tmp_path, ["moving"])


def test_ids_come_from_the_command_line_or_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("a\nb\n\na\n")
    assert read_ids(f"objaverse:{tmp_path / 'ids.txt'}") == ["a", "b"]
    assert read_ids("objaverse:x,y") == ["x", "y"]
    with pytest.raises(UserError, match="names no object"):
        read_ids("objaverse:")
