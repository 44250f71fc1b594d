"""Downloads: whole and checked or not at all, resumed where that is safe. No network."""

import errno
import hashlib
import http.server
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from facerecon_lib.files import downloads
from facerecon_lib.files.downloads import DownloadError, begun, copy, fetch

CONTENT = bytes(i * i // 7 % 251 for i in range(300_000))
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Site(http.server.BaseHTTPRequestHandler):
    """Serves `content` at every path but /nothing, as its attributes say; notes what it is asked.

    breaks: after how many bytes of each answer in turn the connection ends.
    """

    protocol_version = "HTTP/1.1"
    content, tag, modified, ranges = CONTENT, '"one"', None, True
    breaks: ClassVar[list[int]] = []
    asked: ClassVar[list[tuple[str, str | None, str | None]]] = []

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = type(self)
        span, version = self.headers.get("Range"), self.headers.get("If-Range")
        site.asked.append((self.path, span, version))
        if self.path == "/nothing":
            self.send_error(404)
            return
        start, total = 0, len(site.content)
        if span and site.ranges and version in (site.tag, site.modified):
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        for name, value in (("ETag", site.tag), ("Last-Modified", site.modified)):
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        data = site.content[start:]
        if site.breaks:
            data = data[: site.breaks.pop(0)]
            self.close_connection = True
        self.wfile.write(data)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Site]]:
    """A site of its own for each test; `site.address` is a file on it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads.urllib.request, "_opener", None)  # it remembers proxies
    monkeypatch.setattr(downloads, "PAUSES_S", (0, 0))
    handler = type("ThisSite", (Site,), {"breaks": [], "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        handler.address = f"http://127.0.0.1:{server.server_port}/weights.pth"
        yield handler
        server.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pth"


def left(path: Path) -> list[str]:
    """What is in the folder, the file itself apart."""
    return sorted(other.name for other in path.parent.iterdir() if other != path)


def broken(site: type[Site], path: Path, kept: int) -> None:
    """A download that breaks off after so many bytes, and could not be resumed in time."""
    site.breaks[:] = [kept, 0, 0]
    with pytest.raises(DownloadError, match=rf"\({kept} of {len(site.content)} bytes came\)"):
        fetch(site.address, path, DIGEST)
    site.asked.clear()


def test_a_file_comes_whole(site, path):
    fetch(site.address, path, DIGEST)
    assert path.read_bytes() == CONTENT
    assert left(path) == []
    assert site.asked == [("/weights.pth", None, None)]


def test_what_breaks_off_is_gone_on_with_in_the_same_call(site, path):
    site.breaks[:] = [100_000, 50_000, 0, 1]
    fetch(site.address, path, DIGEST)
    assert path.read_bytes() == CONTENT
    spans = [span for _, span, _ in site.asked]
    assert spans == [None, *(f"bytes={n}-" for n in (100_000, 150_000, 150_000, 150_001))]
    assert left(path) == []


@pytest.mark.parametrize(
    ("tag", "modified"), [('"one"', None), (None, "Mon, 01 Jan 2024 00:00:00 GMT")]
)
def test_what_broke_off_is_gone_on_with_in_the_next_call(site, path, tag, modified):
    site.tag, site.modified = tag, modified
    broken(site, path, 123_456)
    assert not path.exists()
    assert begun(path) == 123_456
    fetch(site.address, path, DIGEST)
    assert site.asked == [("/weights.pth", "bytes=123456-", tag or modified)]
    assert path.read_bytes() == CONTENT
    assert left(path) == []
    assert begun(path) == 0


BACKWARDS = dict(tag='"two"', content=CONTENT[::-1])


@pytest.mark.parametrize(
    ("careless", "changes", "requests"),
    [
        (False, dict(ranges=False), 1),
        (False, BACKWARDS, 1),
        (True, BACKWARDS, 2),
        (True, dict(content=CONTENT + b"more"), 2),
        (True, dict(content=CONTENT[:100_000]), 2),
    ],
    ids=["no ranges", "changed", "changed, careless", "longer", "shorter"],
)
def test_a_part_of_another_file_is_not_joined(site, path, careless, changes, requests):
    """A careless server sends the part that it was asked for, whatever If-Range says."""
    get = site.do_GET

    def answer(self):
        if self.headers.get("Range"):
            self.headers.replace_header("If-Range", type(self).tag)
        get(self)

    broken(site, path, 123_456)
    site.do_GET = answer if careless else get
    for name, value in changes.items():
        setattr(site, name, value)
    fetch(site.address, path, hashlib.sha256(site.content).hexdigest())
    assert path.read_bytes() == site.content
    assert [span for _, span, _ in site.asked] == ["bytes=123456-", None][:requests]


def test_another_address_begins_anew(site, path):
    broken(site, path, 123_456)
    fetch(site.address.replace("weights", "mirror"), path, DIGEST)
    assert site.asked == [("/mirror.pth", None, None)]
    assert path.read_bytes() == CONTENT


def test_nothing_is_kept_that_cannot_be_gone_on_with(site, path):
    for site.tag in (None, 'W/"weak"'):
        site.asked.clear()
        site.breaks[:] = [1000]
        with pytest.raises(DownloadError, match="1000 of 300000 bytes came"):
            fetch(site.address, path, DIGEST)
        assert len(site.asked) == 1
        assert left(path) == []


def test_one_that_was_stopped_before_its_check_asks_for_nothing(site, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(downloads._Part, "move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(site.address, path, DIGEST)
    assert begun(path) == len(CONTENT)
    site.asked.clear()
    fetch(site.address, path, DIGEST)
    assert site.asked == []
    assert path.read_bytes() == CONTENT


def test_wrong_bytes_leave_nothing_and_the_file_as_it_was(site, path):
    path.parent.mkdir()
    path.write_bytes(b"older")
    site.content = b"<html>Sign in to this network</html>"
    with pytest.raises(DownloadError, match=r"36 bytes came with the SHA-256 .*thrown away"):
        fetch(site.address, path, DIGEST)
    assert path.read_bytes() == b"older"
    assert left(path) == []


def test_a_broken_part_that_was_tampered_with_is_thrown_away(site, path):
    broken(site, path, 123_456)
    part = next(other for other in path.parent.iterdir() if other.suffix == ".part")
    part.write_bytes(b"x" * 123_456)
    with pytest.raises(DownloadError, match="thrown away"):
        fetch(site.address, path, DIGEST)
    assert left(path) == []
    fetch(site.address, path, DIGEST)
    assert path.read_bytes() == CONTENT


def test_bytes_of_nobody_knows_what_are_not_gone_on_with(site, path):
    broken(site, path, 123_456)
    facts = next(other for other in path.parent.iterdir() if other.suffix == ".json")
    for text in ("", "[]", json.dumps({"url": site.address})):
        facts.write_text(text)
        fetch(site.address, path, DIGEST)
        assert site.asked.pop() == ("/weights.pth", None, None)
        path.unlink()


def test_a_missing_file_is_one_line_and_keeps_what_was_begun(site, path):
    missing = site.address.replace("weights.pth", "nothing")
    with pytest.raises(DownloadError, match=r"/nothing: the server answers 404 Not Found$"):
        fetch(missing, path, DIGEST)
    assert left(path) == []
    assert len(site.asked) == 1  # 404 is an answer, and not asked for again
    broken(site, path, 5000)
    site.do_GET = lambda self: self.send_error(503)
    with pytest.raises(DownloadError, match="answers 503"):
        fetch(site.address, path, DIGEST)
    assert begun(path) == 5000


def test_a_place_that_cannot_be_written_is_named_rather_than_the_address(site, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file, and no folder")
    with pytest.raises(DownloadError, match=f"^{path}: cannot be written .(Not a dir|File exists)"):
        fetch(site.address, path / "weights.pth", DIGEST)
    assert site.asked == []


def test_too_little_room_is_said_before_anything_is_written(site, path, monkeypatch):
    usage = downloads.shutil.disk_usage(path.parents[2])._replace(free=downloads.ROOM + 100_000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(downloads._Part, "write", lambda *_: pytest.fail("written"))
    with pytest.raises(DownloadError, match=r"67 MB of the disk are free, .* make room$"):
        fetch(site.address, path, DIGEST)
    assert left(path) == []


def test_a_disk_that_fills_up_gets_its_space_back(site, path, monkeypatch):
    write = downloads._Part.write

    def full(self, data):
        if self.size > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data[:60_000])

    monkeypatch.setattr(downloads._Part, "write", full)
    monkeypatch.setattr(downloads, "CHUNK", 60_000)
    with pytest.raises(DownloadError, match=r"cannot be fetched \(No space left on device\)$"):
        fetch(site.address, path, DIGEST)
    assert len(site.asked) == 1
    assert left(path) == []


def test_the_first_digits_of_a_checksum_do_where_no_more_are_known(site, path):
    fetch(site.address, path, DIGEST[:8])
    assert path.read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="thrown away"):
        fetch(site.address, path.with_name("other"), "0" + DIGEST[1:8])
    for digits in (DIGEST[:7], "", DIGEST.upper(), DIGEST + "0"):
        with pytest.raises(ValueError, match="8 to 64 hexadecimal digits"):
            fetch(site.address, path, digits)


def test_of_two_that_fetch_one_file_the_second_waits_and_finds_it(site, path, monkeypatch):
    get, going = site.do_GET, threading.Event()

    def slow(self):
        going.set()
        time.sleep(0.3)
        get(self)

    site.do_GET = slow
    first = threading.Thread(target=fetch, args=(site.address, path, DIGEST))
    first.start()
    going.wait(5)
    fetch(site.address, path, DIGEST)
    assert path.read_bytes() == CONTENT
    first.join()
    assert len(site.asked) == 1
    assert left(path) == []


def test_proxies_of_the_environment_are_used(site, path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.address.removesuffix("/weights.pth"))
    fetch("http://weights.invalid/a.pth", path, DIGEST)
    assert site.asked == [("http://weights.invalid/a.pth", None, None)]
    assert path.read_bytes() == CONTENT


def test_the_bar_shows_size_and_rate(site, path):
    console = Console(file=io.StringIO(), width=100)
    fetch(site.address, path, DIGEST, console)
    shown = console.file.getvalue()
    assert "weights.pth" in shown
    assert "300.0/300.0 kB" in shown
    assert "/s" in shown


@pytest.mark.parametrize("tag", ['"one"', None])
def test_a_copy_is_resumed_or_begun_anew(site, tag):
    site.tag, site.breaks[:] = tag, [100_000]
    file = io.BytesIO()
    copy(site.address, file)
    assert file.getvalue() == CONTENT
    assert [span for _, span, _ in site.asked] == [None, "bytes=100000-" if tag else None]


def test_a_busy_server_is_asked_again(site):
    get, answers = site.do_GET, [503, 429]

    def busy(self):
        if answers:
            self.send_error(answers.pop())
        else:
            get(self)

    site.do_GET = busy
    file = io.BytesIO()
    copy(site.address, file)
    assert file.getvalue() == CONTENT
    with pytest.raises(DownloadError, match=r"/nothing: the server answers 404 Not Found$") as no:
        copy(site.address.replace("weights.pth", "nothing"), io.BytesIO())
    assert no.value.status == 404
