"""Files that do not ship: fetched whole and as expected, or not at all.

    fetch("https://...", Path("~/.cache/...").expanduser(), sha256="281ceb...")
    fetch(url, path, sha256, console=Console(stderr=True))     # a bar: size, rate, time left

What is fetched grows in a hidden file beside its place and moves there only once its SHA-256 is
right: a page of an error instead of a file, or wrong bytes, leave nothing behind. A download that
breaks off is gone on with, now or in the next call, where the server can tell that the file is
still the same (ETag or Last-Modified, asked for with If-Range) and sends parts (Range); else it
begins anew. Proxies are those of the environment (http_proxy, https_proxy, no_proxy).
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

Report = Callable[[int, int | None], None]
"""Told of the bytes that are here, and of all, where the server says how many."""


class DownloadError(OSError, FacereconError):
    """Nothing was fetched. The message is one line: what, and why not."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
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
    try:
        with contextlib.ExitStack() as opened:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = opened.enter_context(_Part(path))
            except OSError as error:
                raise DownloadError(
                    f"{path.parent}: cannot be written ({_reason(error)})"
                ) from None
            report = opened.enter_context(_bar(console, path.name))
            if not (path.is_file() and sha256_of(path).startswith(sha256)):
                _receive(url, part, report)
                part.move(url, sha256)
    except DownloadError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        raise DownloadError(f"{url}: cannot be fetched ({_reason(error)})") from None


def begun(path: Path) -> int:
    """Bytes of `path` that an earlier call left to go on from; 0 for none."""
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


class _Part:
    """The growing file of `path`, this process's alone while the `with` block lasts.

    It stays behind where it can be gone on with, unless the disk is full.
    """

    def __init__(self, path: Path):
        self.path, self.part = path, _part_file(path)
        self.facts: _Facts | None = None
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
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def begin(self, facts: _Facts | None) -> None:
        """From the first byte; with facts None nothing will be left behind."""
        self.file.truncate(0)
        self.facts = facts
        if facts is None:
            _facts_file(self.path).unlink(missing_ok=True)
        else:
            _facts_file(self.path).write_text(json.dumps(asdict(facts)))

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()

    def move(self, url: str, sha256: str) -> None:
        """To its place, if it is what was expected. Raises DownloadError."""
        os.fsync(self.file.fileno())
        size, found = self.size, sha256_of(self.part)
        if not found.startswith(sha256):
            self.begin(None)
            raise DownloadError(
                f"{url}: {size} bytes came with the SHA-256 {found[:12]}..., "
                f"and not {sha256[:12]}...: they were thrown away"
            )
        _facts_file(self.path).unlink(missing_ok=True)
        if fcntl is None:  # Windows moves no open file
            self.file.close()
        self.part.replace(self.path)
        self.moved = True

    def __exit__(self, kind, error, trace) -> None:
        with contextlib.suppress(OSError):
            kept = error is not None and self.facts is not None and self.size and not _full(error)
            if fcntl is None:
                self.file.close()
            if not (kept or self.moved):
                _facts_file(self.path).unlink(missing_ok=True)
                self.part.unlink()
        with contextlib.suppress(OSError):  # what a full disk could not take
            self.file.close()


def _full(error: BaseException | None) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


# Its bytes --------------------------------------------------------------------------------------


def _receive(url: str, part: _Part, report: Report) -> None:
    """All that is missing. What breaks off and can be gone on with is tried again."""
    pauses = iter(PAUSES_S)
    while True:
        before = part.size
        try:
            return _receive_once(url, part, report)
        except (DownloadError, urllib.error.HTTPError):
            raise
        except (OSError, http.client.HTTPException) as error:
            if part.facts is None or _full(error):
                raise
            if part.size > before:
                pauses = iter(PAUSES_S)
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)


def _receive_once(url: str, part: _Part, report: Report) -> None:
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
        _check_room(part.path.parent, 0 if length is None else int(length))
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


def _goes_on(answer, part: _Part) -> bool:
    """Whether an answer begins where the part ends, and is of the same file."""
    if answer is None:
        return False
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    same = _validator(answer) in (None, part.facts.validator)
    return bool(span and same and (int(span[1]), int(span[2])) == (part.size, part.facts.total))


def _facts(url: str, answer) -> _Facts | None:
    """What a download that breaks off can be gone on by; None where it cannot."""
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
        yield lambda here, total: None
        return
    from rich import progress

    columns = (
        progress.TextColumn(name),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    shown = progress.Progress(*columns, console=console)
    task = shown.add_task(name, total=None)

    def show(here: int, total: int | None) -> None:
        shown.start()  # not before something comes; again does nothing
        shown.update(task, completed=here, total=total)

    try:
        yield show
    finally:
        if shown.live.is_started:
            shown.stop()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # of a URLError: another error, or a text
    text = getattr(reason, "strerror", None) or reason
    return one_line(text) or type(error).__name__
