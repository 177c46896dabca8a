"""The app in a real browser, and what stands behind its buttons."""

import http.client
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.app.browser import BROWSER, opened
from viewtime.app import stages
from viewtime.app.command import run
from viewtime.app.commands import CancelledError, Said, cancel, finished, perform
from viewtime.app.found import FoundObject, click_at, run_folder, save_masks, shown, words_on
from viewtime.configs.schema.app import AppConfig
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.sample.input.mask_files import read_masks

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'viewtime[app]'")
ROOT = Path(__file__).resolve().parents[2]
KNIGHT = ROOT / "examples" / "knight.mp4"
PICTURE = "document.querySelector('#picture img')?.naturalWidth === 720"
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """(address, folder of the runs) of an app that is being served."""
    out = tmp_path_factory.mktemp("app") / "runs"
    words = [sys.executable, "-m", "viewtime.cli", "app", "--port", "0", "--out", str(out), "--frames", "3"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise AssertionError(said)
        yield address[0], out
        process.terminate()


def drop(page, path):
    """Give a video to the page, again until it takes it: its parts appear before they listen."""
    page.wait("document.querySelector('#video input[type=file]') && document.querySelector('#steps input')")
    name = f"{text_of('#video')}.includes({path.stem!r})"
    for _ in range(4):
        page.give("#video input[type=file]", path)
        for _ in range(30):
            time.sleep(1.0)
            if page.run(f"{name} || document.querySelector('#video input[type=file]') === null"):
                return page.wait(name)
    raise AssertionError("the page takes no file")


def text_of(selector):
    return f"document.querySelector('{selector}').innerText"


@in_a_browser
def test_the_mask_is_shown_and_corrected_by_a_click(app, tmp_path):
    address, _ = app
    with opened(address, tmp_path) as page:
        drop(page, KNIGHT)
        page.wait(PICTURE)
        page.wait(f"{text_of('#said')}.includes('3 frames of 256 × 256 px; the object was found by keying')")
        before = page.run("document.querySelector('#picture img').src")
        page.click("#kind label:nth-of-type(3) input")
        page.click("#picture img", 0.5, 0.32)
        page.wait(f"{text_of('#said')}.includes('then 1 click')")
        page.wait(f"document.querySelector('#picture img').src !== {before!r}")
        page.click("#undo")
        page.wait(f"!{text_of('#said')}.includes('click')")
        assert page.errors() == []
        foreign = [url for url in page.requests() if not url.startswith((address, "data:", "blob:"))]
        assert foreign == []


@in_a_browser
def test_errors_are_those_of_the_command_line(app, tmp_path):
    address, _ = app
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("no film")
    said = subprocess.run(
        [sys.executable, "-m", "viewtime.cli", "sample", "--video", str(wrong), "--out", str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    tail = said.stderr.strip().splitlines()[-1].partition("notes.mp4")[2]
    assert tail
    with opened(address, tmp_path) as page:
        drop(page, wrong)
        page.wait(f"document.body.innerText.includes({tail!r})")


@in_a_browser
@pytest.mark.slow
def test_a_video_becomes_an_asset_that_plays(app, tmp_path):
    address, out = app
    with opened(address, tmp_path) as page:
        drop(page, KNIGHT)
        page.wait(PICTURE)
        page.type("#steps input", "1")
        page.type("#views input", "2")
        page.click("#make-grid")
        page.wait("document.querySelector('#log textarea').value.includes('model:')")
        page.click("#cancel")
        page.wait("document.body.innerText.includes('goes on from what was finished')")
        page.click("#make-grid")
        page.wait("document.querySelector('#grid-view iframe') !== null", 600)
        page.click("#make-grid")
        page.wait("document.querySelector('#log textarea').value.includes('made before')")
        page.click("#method input")
        option = "[...document.querySelectorAll('[role=option]')].find(e => e.innerText.includes('without a fit'))"
        page.wait(option)
        page.run(f"{option}.dispatchEvent(new MouseEvent('mousedown', {{bubbles: true}}))")
        page.wait("document.querySelector('#method input').value.includes('without a fit')")
        page.click("#make-asset")
        page.wait("document.querySelector('#log textarea').value.includes('method: direct')")
        page.wait("document.querySelector('#player iframe') !== null", 600)
        label = "document.querySelector('#player iframe').contentDocument.getElementById('label')"
        page.wait(f"{label} && /Gaussians, frame .* of 3/.test({label}.textContent)")
        names = page.run(text_of("#files")).replace("\n", "")
        assert "asset.glb" in names
        assert "asset.html" in names
        assert page.errors() == []
    (run,) = out.iterdir()
    assert (run / "asset" / "asset.glb").read_bytes()[:4] == b"glTF"
    assert stages.runs_in(out) == [run.name]


def test_pages_of_other_sites_are_refused(app):
    address = app[0].removeprefix("http://")

    def status(**headers):
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/config", headers=headers)
        return connection.getresponse().status

    assert status() == 200
    assert status(Origin=f"http://{address}") == 200
    assert status(Origin="http://evil.example") == 403
    assert status(Host="evil.example") == 403


def test_a_command_says_its_error_is_stopped_and_is_not_run_twice(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"^viewtime view: no such asset"):
        list(perform(run, "page", ["view", str(tmp_path / "none"), "--html", str(tmp_path / "x.html")]))
    assert not cancel(run)
    steps = perform(run, "curate", ["app", "--port", "0", "--out", str(tmp_path / "runs")])
    assert "open http://" in next(text for text in steps if "http" in text)
    with pytest.raises(UserError, match="already being worked on"):
        next(perform(run, "curate", ["info"]))
    assert cancel(run)
    with pytest.raises(CancelledError, match="goes on from what was finished"):
        list(steps)
    assert not finished(run, "info", ["info"], [])
    list(perform(run, "info", ["info"]))
    assert finished(run, "info", ["info"], [run])
    assert not finished(run, "info", ["info"], [run / "gone"])
    assert not finished(run, "info", ["info", "mini"], [])


def test_a_progress_line_is_rewritten():
    said = Said()
    said.hear("model: mini\r\n\x1b[2Kstep 1/9\r\x1b[2Kst")
    assert said.text() == "model: mini\nst"
    said.hear("ep 9/9\r\ndone\r\n")
    assert said.lines == ["model: mini", "step 9/9", "done"]


def test_masks_go_to_the_command_only_where_it_would_not_find_them(tmp_path):
    masks = np.zeros((2, 40, 80), np.uint8)
    masks[:, 10:20, 30:50] = 255
    found = FoundObject(
        KNIGHT, np.zeros((2, 40, 80, 3), np.uint8), (masks,), "keying", ("a note",), ((),), (0, 2), 4, 2, None
    )
    run = run_folder(tmp_path, KNIGHT)
    assert re.fullmatch(r"knight-[0-9a-f]{8}", run.name)
    assert save_masks(found, run) is None
    clicked = replace(found, masks=(masks, masks // 2), doubts=((), ("it flickers",)))
    saved = save_masks(clicked, run)
    assert np.array_equal(read_masks(saved, 4, (40, 80))[[0, 2]] > 0, masks > 0)
    words = stages.sample_words(KNIGHT, saved, run, stages.GridChoice("mini", 2, steps=1))
    assert words[:3] == ["sample", "--video", str(KNIGHT)]
    assert words[words.index("--mask") + 1] == str(saved)
    assert "--views" not in words
    assert "a note\n\n**doubtful:** it flickers" in words_on(clicked)
    assert clicked.without_last_click().alpha is masks
    assert words_on(clicked.without_last_click()) == words_on(found)
    assert "doubtful" not in words_on(found)
    picture = shown(found, 1)
    assert picture.shape == (360, 720, 3)
    click = click_at(found, 1, (719, 0), "add")
    assert (click.x, click.y, click.frame) == (79, 0, 1)


def test_another_address_than_this_machines_own_is_said_loudly(tmp_path, monkeypatch, caplog):
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    monkeypatch.setattr(log, "propagate", True)
    log.setLevel("INFO")
    assert AppConfig().host == "127.0.0.1"
    run(AppConfig(port=0, out=tmp_path / "runs"))
    assert "EVERYONE" not in caplog.text
    assert re.search(r"open http://127\.0\.0\.1:[1-9]\d* in a browser", caplog.text)
    run(AppConfig(host="0.0.0.0", port=0, out=tmp_path / "runs"))
    assert "--host 0.0.0.0: EVERYONE who reaches this machine" in caplog.text
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.7 .*an address of this machine"):
        run(AppConfig(host="192.0.2.7", out=tmp_path / "runs"))
    with pytest.raises(UserError, match="--frames 0; at least 1"):
        run(AppConfig(frames=0))
