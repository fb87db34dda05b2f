"""Downloading: from a server inside the test, and MNIST itself over the network."""

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trueboundary.data import load_mnist, mnist


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *_arguments: Any) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve tmp_path / "served" on this machine alone."""
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "served").mkdir()
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_downloads_are_silent_and_checked(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served/file.gz").write_bytes(b"content")
    digest = f"md5:{hashlib.md5(b'content').hexdigest()}"
    file = mnist._download(f"{server}/file.gz", digest, tmp_path)
    assert file.read_bytes() == b"content"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("served", "reason"), [(b"something else", "wrong checksum"), (None, "HTTPError")]
)
def test_wrong_and_missing_downloads_close_the_route(
    server: str, tmp_path: Path, served: bytes | None, reason: str
) -> None:
    if served is not None:
        (tmp_path / "served/file.gz").write_bytes(served)
    digest = f"md5:{hashlib.md5(b'content').hexdigest()}"
    with pytest.raises(mnist._RouteClosed, match=reason):
        mnist._download(f"{server}/file.gz", digest, tmp_path)


@pytest.mark.slow
def test_mnist_is_obtained_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUEBOUNDARY_MNIST", raising=False)
    try:
        data = load_mnist(tmp_path)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    counts = np.bincount(data.part("train").labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.part("test").labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.images.shape == (70_000, 28, 28, 1)
    # The mean pixel that everybody normalises by.
    assert abs(data.part("train").images.mean() / 255 - 0.1307) < 5e-5
