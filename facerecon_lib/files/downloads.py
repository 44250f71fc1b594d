"""Downloads: files that do not ship, and shards of photos on the net.

    fetch("https://...", Path("~/.cache/...").expanduser(), sha256="281ceb...")
    fetch(url, path, sha256, console=Console(stderr=True))     # a bar: size, rate, time left
    copy("https://.../photos-00000.tar", open_file)            # no checksum, tried again

`fetch` writes a hidden file beside `path` and moves it there once its SHA-256 is right: an error
page or wrong bytes leave nothing behind. A download that breaks off is resumed, now or in the next
call, if the server can tell that the file is the same (ETag or Last-Modified, asked with If-Range)
and sends parts (Range); else it starts again. Proxies are those of the environment (http_proxy,
https_proxy, no_proxy). The encoder's, detectors' and recognition networks' weights come this way.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import FacereconError, one_line

try:
    import fcntl
except ImportError:  # Windows: two processes that fetch one file at once both begin anew
    fcntl = None

CHUNK = 2**20
TIMEOUT_S = 30  # without a byte
PAUSES_S = (1, 4, 16)  # before the next try, when no byte came since the last
ROOM = 2**26  # bytes of the disk that stay free

BUSY = (408, 425, 429)  # answers, beside 5xx, that ask to try again

Report = Callable[[int, int | None], None]
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

    sha256: in hexadecimal, of the file; or its first digits, at least 8, where no more of it was
    published (torchvision's names of files end in them). console: rich's, for a bar; None for none.
    Of two processes that fetch one file the second waits, and finds it.
    Raises DownloadError, `path` being as it was.
    """
    if not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ValueError(f"sha256 {sha256!r}: expected 8 to 64 hexadecimal digits, in lower case")
    with _one_line_errors(url), contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = opened.enter_context(_Part(path))
        except OSError as error:
            raise DownloadError(f"{path.parent}: cannot be written ({_reason(error)})") from None
        report = opened.enter_context(_bar(console, path.name))
        if not (path.is_file() and sha256_of(path).startswith(sha256)):
            _receive(url, part, report)
            part.move(url, sha256)


def copy(url: str, file: BinaryIO) -> None:
    """Copy what `url` holds into an empty open file.

    Whatever breaks off is tried again: resumed where that is safe, else from the start.
    Raises DownloadError.
    """
    with _one_line_errors(url):
        _receive(url, _Copy(file), lambda received, total: None)


@contextlib.contextmanager
def _one_line_errors(url: str) -> Iterator[None]:
    """Raises DownloadError for all that can go wrong."""
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
    part = _part_file(path)
    return part.stat().st_size if part.is_file() and _facts_file(path).is_file() else 0


# The part that is here --------------------------------------------------------------------------


def _part_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _facts_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.part.json")


@dataclass(frozen=True)
class _Facts:
    """What the bytes are of: the address, what tells its versions apart, and how many there are."""

    url: str
    validator: str
    total: int


class _Copy:
    """A growing copy in an open file; with `facts` it can be resumed."""

    folder: Path | None = None  # that must have room for it

    def __init__(self, file: BinaryIO):
        self.file = file
        self.facts: _Facts | None = None

    @property
    def patient(self) -> bool:
        """Whether to try again after an error."""
        return True

    @property
    def size(self) -> int:
        self.file.seek(0, os.SEEK_END)
        return self.file.tell()

    def begin(self, facts: _Facts | None) -> None:
        """Start from the first byte."""
        self.file.seek(0)
        self.file.truncate(0)
        self.facts = facts

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()


class _Part(_Copy):
    """The growing file of `path`, owned by this process inside the `with` block.

    It stays behind if it can be resumed, unless the disk is full.
    """

    def __init__(self, path: Path):
        self.path, self.part, self.folder = path, _part_file(path), path.parent
        self.facts = None
        self.moved = False

    def __enter__(self) -> "_Part":
        self.file = self._claimed()
        try:
            self.facts = _Facts(**json.loads(_facts_file(self.path).read_text()))
        except (OSError, ValueError, TypeError):
            self.begin(None)  # bytes of nobody knows what
        return self

    def _claimed(self) -> BinaryIO:
        """Opened, and locked where that is possible; waits for another process."""
        while True:
            file = self.part.open("a+b")
            if fcntl is None:
                return file
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):  # another may have moved or removed it
                if os.path.samestat(os.fstat(file.fileno()), self.part.stat()):
                    return file
            file.close()

    @property
    def patient(self) -> bool:
        return self.facts is not None

    def begin(self, facts: _Facts | None) -> None:
        """Start from the first byte; with facts None nothing will be left behind."""
        super().begin(facts)
        if facts is None:
            _facts_file(self.path).unlink(missing_ok=True)
        else:
            _facts_file(self.path).write_text(json.dumps(asdict(facts)))

    def move(self, url: str, sha256: str) -> None:
        """To its place, if it is what was expected. Raises DownloadError."""
        os.fsync(self.file.fileno())
        size, digest = self.size, sha256_of(self.part)
        if not digest.startswith(sha256):
            self.begin(None)
            raise DownloadError(
                f"{url}: {size} bytes came with the SHA-256 {digest[:12]}..., "
                f"and not {sha256[:12]}...: they were thrown away"
            )
        _facts_file(self.path).unlink(missing_ok=True)
        if fcntl is None:  # Windows moves no open file
            self.file.close()
        self.part.replace(self.path)
        self.moved = True

    def __exit__(self, kind, error, trace) -> None:
        with contextlib.suppress(OSError):
            resumable = (
                error is not None and self.facts is not None and self.size and not _full(error)
            )
            if fcntl is None:
                self.file.close()
            if not (resumable or self.moved):
                _facts_file(self.path).unlink(missing_ok=True)
                self.part.unlink()
        with contextlib.suppress(OSError):  # what a full disk could not take
            self.file.close()


def _full(error: BaseException | None) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


# Its bytes --------------------------------------------------------------------------------------


def _receive(url: str, part: _Copy, report: Report) -> None:
    """Receive all that is missing; after an error try again if `part` is patient."""
    pauses = iter(PAUSES_S)
    while True:
        before = part.size
        try:
            return _receive_once(url, part, report)
        except ValueError:  # a DownloadError, or an address that is none
            raise
        except (OSError, http.client.HTTPException) as error:
            code = getattr(error, "code", 500)
            if not part.patient or _full(error) or (code < 500 and code not in BUSY):
                raise
            if part.size > before:
                pauses = iter(PAUSES_S)
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)


def _receive_once(url: str, part: _Copy, report: Report) -> None:
    if part.facts is not None and (part.facts.url != url or part.size > part.facts.total):
        part.begin(None)
    if part.facts is not None and part.size == part.facts.total:
        return  # stopped before it was checked
    request = urllib.request.Request(url)
    if part.facts is not None and part.size:
        request.add_header("Range", f"bytes={part.size}-")
        request.add_header("If-Range", part.facts.validator)
    with _opened(request) as answer:
        partial = answer is None or getattr(answer, "status", None) == 206
        if partial and not request.has_header("Range"):
            raise OSError("a part came where all was asked for")
        if partial and not _goes_on(answer, part):
            part.begin(None)
            return _receive_once(url, part, report)
        if not partial:
            part.begin(_facts(url, answer))
        length = answer.headers.get("Content-Length")
        total = None if length is None else part.size + int(length)
        if part.folder is not None:
            _check_room(part.folder, 0 if length is None else int(length))
        report(part.size, total)
        while chunk := answer.read1(CHUNK):
            part.write(chunk)
            report(part.size, total)
    if total is not None and part.size != total:  # a read may just end early
        raise OSError(f"{part.size} of {total} bytes came")


@contextlib.contextmanager
def _opened(request: urllib.request.Request) -> Iterator:
    """The answer, or None where the server has no such part. Raises what urlopen raises."""
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not request.has_header("Range"):
            raise
        error.close()
        yield None
        return
    with answer:
        yield answer


def _goes_on(answer, part: _Copy) -> bool:
    """Whether an answer begins where the part ends, and is of the same file."""
    if answer is None:
        return False
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    same = _validator(answer) in (None, part.facts.validator)
    return bool(span and same and (int(span[1]), int(span[2])) == (part.size, part.facts.total))


def _facts(url: str, answer) -> _Facts | None:
    """What a download that breaks off can be resumed by; None where it cannot."""
    validator, length = _validator(answer), answer.headers.get("Content-Length")
    return None if validator is None or length is None else _Facts(url, validator, int(length))


def _validator(answer) -> str | None:
    tag = answer.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):  # a weak one may stand for other bytes
        return tag
    return answer.headers.get("Last-Modified")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed and free < needed + ROOM:
        raise DownloadError(
            f"{folder}: {free / 1e6:.0f} MB of the disk are free, and {needed / 1e6:.0f} MB are to "
            f"come, with {ROOM / 1e6:.0f} MB to spare; make room"
        )


@contextlib.contextmanager
def _bar(console, name: str) -> Iterator[Report]:
    """A bar with the size, the rate and the time left, where there is a console for it."""
    if console is None:
        yield lambda received, total: None
        return
    from rich import progress

    columns = (
        progress.TextColumn(name),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    bar = progress.Progress(*columns, console=console)
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
