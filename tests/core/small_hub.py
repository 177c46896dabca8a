"""A model hub on loopback that speaks as much of the protocol as down- and uploads need, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

COMMIT = "c0ffee" + "0" * 34


class SmallHub:
    """Repositories {name: {file: bytes}}; `requests` lists what was asked for, with the byte it began at.

    Who pushes must hold the token hf_good; a repository that is not there is made.
    """

    def __init__(self, repositories):
        self.repositories, self.requests = repositories, []
        self.gated, self.breaks, self.lies = set(), set(), set()

    def etag(self, name, file):
        content = self.repositories[name][file]
        return hashlib.sha256(b"another" if file in self.lies else content).hexdigest()


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, code, body=b"", **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = urlparse(self.path).path
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
            asked = api or file
            if asked is None:
                return self.answer(404)
            name = asked[1]
            if name not in hub.repositories:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if name in hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
                return self.answer(403, b"gated", X_Error_Code="GatedRepo")
            return self.of_api(name, asked[2] or "") if api else self.of_file(name, asked[2])

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Authorization") != "Bearer hf_good":
                return self.answer(401, b'{"error": "Invalid username or password."}')
            path = urlparse(self.path).path
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.repositories.setdefault(name, {})
                return self.told(url=f"http://{self.headers['Host']}/{name}")
            name, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
            if what == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self.told(files=files)
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.told(commitUrl=f"http://{self.headers['Host']}/{name}/commit/{COMMIT}", commitOid=COMMIT)

        def told(self, **record):
            self.answer(200, json.dumps(record).encode(), Content_Type="application/json")

        def of_api(self, name, rest):
            files = hub.repositories[name]
            tree = [{"type": "file", "path": file, "size": len(data), "oid": "0" * 40} for file, data in files.items()]
            siblings = [{"rfilename": file} for file in files]
            record = tree if rest.startswith("/tree") else {"id": name, "sha": COMMIT, "siblings": siblings}
            self.answer(200, json.dumps(record).encode(), Content_Type="application/json")

        def of_file(self, name, file):
            if file not in hub.repositories[name]:
                return self.answer(404, X_Error_Code="EntryNotFound")
            content, tag = hub.repositories[name][file], hub.etag(name, file)
            begin = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(begin[1]) if begin else 0
            headers = {"ETag": f'"{tag}"', "X_Repo_Commit": COMMIT, "X_Linked_Etag": f'"{tag}"'}
            headers |= {"X_Linked_Size": len(content), "Content_Length": len(content) - start}
            headers |= {"Accept_Ranges": "bytes"}
            if begin:
                headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if self.command == "GET":
                hub.requests.append((file, start))
                if file in hub.breaks:
                    hub.breaks.discard(file)
                    self.send_response(200)
                    for key, value in headers.items():
                        self.send_header(key.replace("_", "-"), str(value))
                    self.end_headers()
                    self.wfile.write(content[: len(content) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    return None
            return self.answer(206 if begin else 200, content[start:], **headers)

    return Handler


@contextmanager
def served(hub):
    """The hub's address while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
