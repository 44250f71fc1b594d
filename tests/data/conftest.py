"""Shards on the disk and behind an http address, for tests of their files, samples and reader."""

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from written_shards import write_folder

from facerecon_lib.files import downloads


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of eight photos, of twelve people."""
    return write_folder(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(shards, tmp_path / "copy"))


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word, and cuts off the first `cut` answers with a shard."""

    cut = 0

    def log_message(self, *args: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        data = source.read()
        if self.path.endswith(".tar") and Server.cut > 0:
            Server.cut -= 1
            data = data[: len(data) // 2]
        with contextlib.suppress(ConnectionError):
            outputfile.write(data)


@pytest.fixture
def server() -> type[Server]:
    """To set how many answers are `cut`."""
    return Server


@pytest.fixture
def address(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An http address of the shards, on this machine."""
    monkeypatch.setattr(downloads, "PAUSES_S", (0, 0))
    monkeypatch.setattr(Server, "cut", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = functools.partial(Server, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
