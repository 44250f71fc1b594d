"""Files that do not ship: fetched whole and as expected, or not at all.

    fetch("https://...", Path("~/.cache/...").expanduser(), sha256="281ceb...")

What is fetched goes into a folder beside its place and moves there only once its SHA-256 is right:
a download that breaks off, or a page of an error instead of a file, leaves nothing behind.
"""

import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

CHUNK = 2**20
TIMEOUT_S = 30  # without a byte


class DownloadError(OSError):
    """Nothing was fetched. The message is one line: what, and why not."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, path: Path, sha256: str) -> None:
    """Fetch `url` to `path`. Raises DownloadError, `path` being as it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as folder:
            part = Path(folder, path.name)
            _copy(url, part)
            found = file_sha256(part)
            if found != sha256:
                raise DownloadError(
                    f"{url}: {part.stat().st_size} bytes came with the SHA-256 {found[:12]}..., "
                    f"and not {sha256[:12]}...: they were thrown away"
                )
            part.replace(path)
    except DownloadError:
        raise
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        text = " ".join(str(reason).split()) or type(error).__name__
        raise DownloadError(f"{url}: cannot be fetched ({text})") from None


def _copy(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
