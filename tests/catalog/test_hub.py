"""The real hub client against a hub on this machine's loopback: addresses, ranges, refusals."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ds4_backend.catalog.hub import HuggingFaceHub, RemoteFile
from ds4_backend.errors import DownloadError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789012345678901234567890123456789"
REMOTE = RemoteFile(len(CONTENT), DIGEST, COMMIT)


class Handler(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as one file needs."""

    ranges: tuple[str, ...] = ()
    serves_ranges = True

    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        known = "model.gguf" in body
        entry = {
            "type": "file",
            "path": "model.gguf",
            "size": len(CONTENT),
            "oid": "0" * 40,
            "lfs": {"oid": DIGEST, "size": len(CONTENT), "pointerSize": 130},
        }
        self._answer(200, json.dumps([entry] if known else []).encode())

    def do_GET(self) -> None:
        if "/api/models/nobody/" in self.path:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.path.startswith("/api/models/"):
            self._answer(200, json.dumps({"id": "someone/flash", "sha": COMMIT, "modelId": "x"}).encode())
        else:
            self._file()

    def _file(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and type(self).serves_ranges:
            type(self).ranges += (asked[0],)
            self._answer(206, CONTENT[int(asked[1]) : int(asked[2]) + 1])
        else:
            self._answer(200, CONTENT)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Handler, "ranges", ())
    monkeypatch.setattr(Handler, "serves_ranges", True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def hub_of(server: ThreadingHTTPServer) -> HuggingFaceHub:
    return HuggingFaceHub(endpoint=f"http://127.0.0.1:{server.server_port}", segment=4096)


def test_the_hub_tells_size_digest_and_commit(server):
    assert hub_of(server).describe("someone/flash", "model.gguf") == REMOTE


def test_a_file_that_is_not_there_any_more_is_named(server):
    with pytest.raises(DownloadError, match=r"has no file other\.gguf"):
        hub_of(server).describe("someone/flash", "other.gguf")


def test_a_repository_that_is_not_there_is_an_error_with_advice(server):
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        hub_of(server).describe("nobody/flash", "model.gguf")
    assert "HF_TOKEN" in str(caught.value)


def test_a_file_comes_in_segments_and_every_byte_is_reported(server):
    hub, out, seen = hub_of(server), io.BytesIO(), []
    hub.fetch("someone/flash", "model.gguf", REMOTE, 0, out, lambda *n: seen.append(n))
    assert out.getvalue() == CONTENT
    assert Handler.ranges == ("bytes=0-4095", "bytes=4096-8191", "bytes=8192-10239")
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_fetch_goes_on_from_an_offset(server):
    hub, out = hub_of(server), io.BytesIO(CONTENT[:5000])
    out.seek(5000)
    hub.fetch("someone/flash", "model.gguf", REMOTE, 5000, out, lambda *now: None)
    assert out.getvalue() == CONTENT
    assert Handler.ranges[0] == "bytes=5000-9095"


def test_a_hub_without_ranges_is_refused_instead_of_believed(server):
    Handler.serves_ranges = False
    with pytest.raises(DownloadError, match="more bytes than were asked for"):
        hub_of(server).fetch("someone/flash", "model.gguf", REMOTE, 0, io.BytesIO(), lambda *now: None)


def test_without_a_network_the_error_is_one_of_ours(server):
    hub = hub_of(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="Check the network"):
        hub.describe("someone/flash", "model.gguf")


def test_a_bug_is_not_called_a_network_error(server, monkeypatch):
    import huggingface_hub

    def broken(*args, **kwargs):
        raise KeyError("a bug")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", broken)
    with pytest.raises(KeyError):
        hub_of(server).describe("someone/flash", "model.gguf")
