"""A headless Chromium driven through its debugging protocol: open, click, type, give files, look."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One page of the browser."""

    def __init__(self, socket):
        self.socket, self.number, self.messages = socket, 0, []

    def ask(self, method, **values):
        """Call a method of the protocol and wait for its answer."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": values}))
        while True:
            answer = json.loads(self.socket.recv(timeout=120))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.messages.append(answer)

    def run(self, script):
        """Value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script, seconds=120):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(f"Boolean({script})"):
                return
            time.sleep(0.3)
        typed = "[...document.querySelectorAll('textarea, input')].map(e => e.value).join('\\n')"
        raise AssertionError(f"never came true: {script}\n{self.run('document.body.innerText')}\n{self.run(typed)}")

    def give(self, selector, path):
        """Put a file into an <input type=file>."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def click(self, selector, x=0.5, y=0.5):
        """Press the mouse at a place (shares of its width and height) of an element, once it lies still and on top."""
        place = (
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            f" const r = e.getBoundingClientRect(), at = [r.x + {x} * r.width, r.y + {y} * r.height];"
            " return e.contains(document.elementFromPoint(...at)) ? at : null; })()"
        )
        before, end = None, time.monotonic() + 60
        while (at := self.run(place)) is None or at != before:
            assert time.monotonic() < end, f"{selector} is covered or moves"
            before = at
            time.sleep(0.3)
        mouse = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
        self.ask("Input.dispatchMouseEvent", type="mousePressed", **mouse)
        self.ask("Input.dispatchMouseEvent", type="mouseReleased", **mouse)

    def type(self, selector, text):
        """Fill an input and leave it."""
        self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.focus(); e.value = {text!r};"
            " for (const name of ['input', 'change']) e.dispatchEvent(new Event(name, {bubbles: true})); e.blur(); })()"
        )

    def screenshot(self, path):
        """A PNG of the whole page."""
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def errors(self):
        """What the page's console said of errors, and exceptions nobody caught."""
        self.run("0")
        told = [m for m in self.messages if m.get("method") == "Runtime.exceptionThrown"]
        said = [m for m in self.messages if m.get("method") == "Runtime.consoleAPICalled"]
        return told + [m for m in said if m["params"]["type"] == "error"]

    def requests(self):
        """Addresses that the page asked for."""
        sent = [m for m in self.messages if m.get("method") == "Network.requestWillBeSent"]
        return [m["params"]["request"]["url"] for m in sent]


@contextmanager
def opened(address, folder, size=(1400, 1000)):
    """A page at an address, in a browser of its own."""
    from websockets.sync.client import connect

    words = [
        str(BROWSER), "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--window-size={size[0]},{size[1]}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told = folder / "profile" / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not told.is_file() or len(told.read_text().splitlines()) < 2:
            assert time.monotonic() < end, "the browser does not start"
            time.sleep(0.1)
        port = told.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            pages = json.loads(answer.read())
        target = next(page for page in pages if page["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "DOM", "Network"):
                page.ask(f"{domain}.enable")
            page.ask("Page.navigate", url=address)
            yield page
    finally:
        process.terminate()
        process.wait(30)
