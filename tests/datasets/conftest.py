"""A server on this machine that holds files, with the faults of real ones."""

import hashlib
import http.server
import threading

import pytest

from skcausalmeta.datasets._download import RemoteFile


class FileServer:
    """What the server holds, how it behaves, and what it was asked for."""

    def __init__(self, httpd):
        self.root = f"http://127.0.0.1:{httpd.server_address[1]}/"
        self.files = {}
        self.ranges = True  # honour requests for a part
        self.moved = set()  # names that are redirected to "elsewhere/NAME"
        self.faults = []  # of the next requests: a status, or ("cut", n_bytes)
        self.asked = []  # (name, Range header or None) of every request

    def remote(self, name, body=None, algorithm="sha256"):
        """A file of the server as the package describes one."""
        if body is not None:
            self.files[name] = body
        digest = hashlib.new(algorithm, self.files.get(name, b"")).hexdigest()
        return RemoteFile(name, self.root + name, f"{algorithm}:{digest}")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        state = self.server.state
        name = self.path.lstrip("/")
        wanted = self.headers["Range"] if state.ranges else None
        state.asked.append((name, self.headers["Range"]))
        fault = state.faults.pop(0) if state.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
        elif name in state.moved:
            self.send_response(302)
            self.send_header("Location", f"{state.root}elsewhere/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name.removeprefix("elsewhere/") not in state.files:
            self.send_error(404)
        else:
            self.send_part(state.files[name.removeprefix("elsewhere/")], wanted, fault)

    def send_part(self, body, wanted, fault):
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and begin >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part = body[begin:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            extent = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", extent)
        self.end_headers()
        self.wfile.write(part if fault is None else part[: fault[1]])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.state = FileServer(httpd)
    thread = threading.Thread(
        target=httpd.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield httpd.state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_other_folder(tmp_path, monkeypatch):
    """Neither the user's folders nor the network have a part in a test."""
    monkeypatch.delenv("SKCAUSALMETA_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-the-user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home-of-the-user"))
