"""Downloads: files that do not ship, and shards of photos on the net.

    fetch("https://...", Path("~/.cache/...").expanduser(), sha256="281ceb...")
    fetch(url, path, sha256, console=Console(stderr=True))     # a bar: size, rate, time left
    copy("https://.../photos-00000.tar", open_file)            # no checksum, tried again

`fetch` writes a hidden file beside `path` and moves it there once its SHA-256 is right: wrong bytes
leave nothing behind. A download that breaks off is resumed, in the same call or the next, if the
server can tell that the file is the same (ETag or Last-Modified, sent as If-Range) and sends parts
(Range); else it starts again. Proxies are those of the environment (http_proxy, https_proxy,
no_proxy). Notebook 06: weights of encoders, detectors and recognition networks come this way.
"""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .errors import FacereconError, one_line
from .locks import only_one

CHUNK = 2**20
TIMEOUT_S = 30  # without a byte
PAUSES_S = (1, 4, 16)  # before the next try, when no byte came since the last
ROOM = 2**26  # bytes of the disk that stay free
BUSY = (408, 425, 429)  # answers, beside 5xx, that ask to try again

Progress = Callable[[int, int | None], None]
"""Called with the bytes received, and with all, where the server says how many."""


class DownloadError(OSError, FacereconError):
    """Nothing was fetched. The message is one line: what, and why not."""

    status: int | None = None  # of the server's answer


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError when it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, path: Path, sha256: str, console=None) -> None:
    """Fetch `url` to `path`.

    sha256: in hexadecimal; or its first digits, at least 8, where no more are published (names of
    torchvision's files end in them). console: rich's, for a bar. Of two processes that fetch one
    file the second waits, and finds it. Raises DownloadError and leaves `path` as it was.
    """
    if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ValueError(f"sha256 {sha256!r}: expected 8 to 64 hexadecimal digits, in lower case")
    with _one_line_errors(url), contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_one(path.with_name(f".{path.name}.lock")))
            part = stack.enter_context(_claimed(path))
        except OSError as error:
            raise DownloadError(f"{path.parent}: cannot be written ({_reason(error)})") from None
        progress = stack.enter_context(_bar(console, path.name))
        if not (path.is_file() and sha256_of(path).startswith(sha256)):
            _receive(url, part, progress)
            part.move(url, sha256)


def copy(url: str, file: BinaryIO) -> None:
    """Copy the bytes at `url` into an empty open file.

    Whatever breaks off is tried again: resumed where that is safe, else from the start.
    Raises DownloadError.
    """
    with _one_line_errors(url):
        _receive(url, _Part(file), lambda received, total: None)


@contextlib.contextmanager
def _one_line_errors(url: str) -> Iterator[None]:
    try:
        yield
    except DownloadError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        refusal = DownloadError(f"{url}: the server answers {error.code} {error.reason}")
        refusal.status = error.code
        raise refusal from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        raise DownloadError(f"{url}: cannot be fetched ({_reason(error)})") from None


def begun(path: Path) -> int:
    """Bytes of `path` that an earlier call left and the next can resume from; 0 for none."""
    part, facts = _part_files(path)
    return part.stat().st_size if part.is_file() and facts.is_file() else 0


def _part_files(path: Path) -> tuple[Path, Path]:
    """The growing file, and its facts."""
    return path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.part.json")


class _Facts(NamedTuple):
    """What the bytes are of: the address, what tells its versions apart, and how many there are."""

    url: str
    validator: str
    total: int


class _Part:
    """A growing file that can be resumed while `facts` are known; of `path`, or an open copy."""

    def __init__(self, file: BinaryIO, path: Path | None = None):
        self.file, self.path, self.moved = file, path, False
        self.facts: _Facts | None = None

    @property
    def size(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    def begin(self, facts: _Facts | None) -> None:
        """Start from the first byte; a file without facts is not left behind."""
        self.file.seek(0)
        self.file.truncate(0)
        self.facts = facts
        if self.path is not None:
            file = _part_files(self.path)[1]
            file.unlink(missing_ok=True)
            if facts is not None:
                file.write_text(json.dumps(facts._asdict()))

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()

    def move(self, url: str, sha256: str) -> None:
        """To its place, if it is the expected file. Raises DownloadError."""
        os.fsync(self.file.fileno())
        part, facts = _part_files(self.path)
        digest = sha256_of(part)
        if not digest.startswith(sha256):
            size, self.facts = self.size, None
            raise DownloadError(
                f"{url}: {size} bytes came with the SHA-256 {digest[:12]}..., "
                f"and not {sha256[:12]}...: they were thrown away"
            )
        facts.unlink(missing_ok=True)
        self.file.close()
        part.replace(self.path)
        self.moved = True


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[_Part]:
    """The growing file of `path`, open inside the `with` block.

    An error leaves it behind if it can be resumed, unless the disk is full.
    """
    names = _part_files(path)
    part, resumable = _Part(names[0].open("a+b"), path), False
    try:
        part.facts = _Facts(**json.loads(names[1].read_text()))
    except (OSError, ValueError, TypeError):
        part.begin(None)  # bytes of an unknown file
    try:
        yield part
    except BaseException as error:
        resumable = part.facts is not None and part.size > 0 and not _full(error)
        raise
    finally:
        with contextlib.suppress(OSError):  # bytes that a full disk could not take
            part.file.close()
        with contextlib.suppress(OSError):
            for name in names if not (resumable or part.moved) else ():
                name.unlink(missing_ok=True)


def _full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _receive(url: str, part: _Part, progress: Progress) -> None:
    """Receive all missing bytes; after an error try again, if that can be resumed or is a copy."""
    pauses = iter(PAUSES_S)
    while True:
        before = part.size
        try:
            return _receive_once(url, part, progress)
        except ValueError:  # a DownloadError, or an address that is none
            raise
        except (OSError, http.client.HTTPException) as error:
            code = getattr(error, "code", 500)
            patient = part.path is None or part.facts is not None
            if not patient or _full(error) or (code < 500 and code not in BUSY):
                raise
            if part.size > before:
                pauses = iter(PAUSES_S)
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)


def _receive_once(url: str, part: _Part, progress: Progress) -> None:
    if part.facts is not None and (part.facts.url != url or part.size > part.facts.total):
        part.begin(None)
    if part.facts is not None and part.size == part.facts.total:
        return  # stopped before it was checked
    with _answer(url, part) as answer:
        length = answer.headers.get("Content-Length")
        total = None if length is None else part.size + int(length)
        if part.path is not None and total is not None:
            _check_room(part.path.parent, int(length))
        progress(part.size, total)
        while chunk := answer.read1(CHUNK):
            part.write(chunk)
            progress(part.size, total)
    if total is not None and part.size != total:  # a read may just end early
        raise OSError(f"{part.size} of {total} bytes came")


def _answer(url: str, part: _Part):
    """The server's answer: the bytes that are missing, or all of them and the part is empty."""
    request, resume = urllib.request.Request(url), part.facts is not None and part.size > 0
    if resume:
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", part.facts.validator)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not resume:  # 416: there is no such part
            raise
        answer = error
    headers = answer.headers
    tag, length = headers.get("ETag"), headers.get("Content-Length")
    weak = tag is None or tag.startswith("W/")  # it may stand for other bytes
    validator = headers.get("Last-Modified") if weak else tag
    if answer.status not in (206, 416):
        resumable = validator is not None and length is not None
        part.begin(_Facts(url, validator, int(length)) if resumable else None)
        return answer
    if not resume:
        raise OSError("a part came where all was asked for")
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    same = answer.status == 206 and validator in (None, part.facts.validator)
    if same and span and (int(span[1]), int(span[2])) == (part.size, part.facts.total):
        return answer
    answer.close()
    part.begin(None)
    return _answer(url, part)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed and free < needed + ROOM:
        raise DownloadError(
            f"{folder}: {free / 1e6:.0f} MB of the disk are free, and {needed / 1e6:.0f} MB are to "
            f"come, with {ROOM / 1e6:.0f} MB to spare; make room"
        )


@contextlib.contextmanager
def _bar(console, name: str) -> Iterator[Progress]:
    """A bar with the size, the rate and the time left, where there is a console for it."""
    from rich import progress

    columns = (progress.TextColumn(name), progress.BarColumn(), progress.DownloadColumn())
    columns += (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    bar = progress.Progress(*columns, console=console, disable=console is None)
    task = bar.add_task(name, total=None)

    def show(received: int, total: int | None) -> None:
        bar.start()  # not before something comes; again does nothing
        bar.update(task, completed=received, total=total)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # of a URLError: another error, or a text
    text = getattr(reason, "strerror", None) or reason
    return one_line(text) or type(error).__name__
