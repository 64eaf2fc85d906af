"""A download is whole and right, or there is none: against a real server on loopback."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from steerlib.evaluation.downloads import fetch

CONTENT = bytes(range(256)) * 1000  # several chunks
SHA = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        body = b"another file" if self.path == "/other" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) if self.path == "/cut" else len(body)))
        self.end_headers()
        self.wfile.write(body[:100_000] if self.path == "/cut" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.asked = []
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once_with_its_folders(server, tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    assert fetch(f"{server.url}/file", SHA, path) == path
    assert path.read_bytes() == CONTENT
    fetch(f"{server.url}/file", SHA, path)
    assert server.asked == ["/file"]
    assert [found.name for found in path.parent.iterdir()] == ["file.bin"]


def test_a_file_that_is_there_needs_no_network(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/none", SHA, path) == path


@pytest.mark.parametrize("place", ["/other", "/cut"])
def test_wrong_content_is_refused_with_both_checksums_and_leaves_nothing(server, tmp_path, place):
    sent = b"another file" if place == "/other" else CONTENT[:100_000]
    both = f"{hashlib.sha256(sent).hexdigest()}.*{SHA}"
    # A cut answer is a network error or wrong content, as the Python version sees it.
    with pytest.raises((ValueError, ConnectionError), match=f"{both}|could not be downloaded"):
        fetch(f"{server.url}{place}", SHA, tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []
    fetch(f"{server.url}/file", SHA, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_wrong_content_from_the_network_names_both_checksums(server, tmp_path):
    other = hashlib.sha256(b"another file").hexdigest()
    with pytest.raises(ValueError, match=f"{other}.*{SHA}.*/other"):
        fetch(f"{server.url}/other", SHA, tmp_path / "file.bin")


def test_a_file_that_is_there_with_another_checksum_is_refused_and_kept(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"mine")
    found = hashlib.sha256(b"mine").hexdigest()
    with pytest.raises(ValueError, match=f"{found}.*{SHA}.*remove"):
        fetch("http://127.0.0.1:9/none", SHA, path)
    assert path.read_bytes() == b"mine"


def test_a_download_that_is_killed_leaves_the_name_free(server, tmp_path):
    """What is left behind has another name, which the next call neither reads nor needs."""
    (tmp_path / ".file.bin.abc.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/file", SHA, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("place", ["/missing", None])
def test_what_cannot_be_downloaded_is_named(server, tmp_path, place):
    url = f"{server.url}{place}" if place else "http://127.0.0.1:9/none"
    with pytest.raises(ConnectionError, match=r"127.*could not be downloaded.*file\.bin"):
        fetch(url, SHA, tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "abc", SHA.upper(), SHA[:-1] + "g"])
def test_a_checksum_that_is_none_is_refused(tmp_path, sha256):
    with pytest.raises(ValueError, match="64 hexadecimal"):
        fetch("http://127.0.0.1:9/none", sha256, tmp_path / "file.bin")
