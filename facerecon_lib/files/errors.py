"""The base of the library's errors, and messages on one line.

    class PhotoError(FacereconError): ...
    raise PhotoError(f"{readable_name(path)}: is damaged ({one_line(error)}); save it again")

Every notebook and every command meets these messages.
"""

from pathlib import Path


class FacereconError(ValueError):
    """An input that cannot be used. The message is one line: which, what is wrong, what to do."""


def one_line(message: object) -> str:
    """A message, error or path for people, on one line; an empty error gives its class.

    Bytes of file names that are not UTF-8 are replaced.
    """
    text = str(message).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    line = " ".join(text.split())
    return line or (type(message).__name__ if isinstance(message, BaseException) else "")


def readable_name(path: Path) -> str:
    """The file's name for people, on one line."""
    return one_line(path.name) or "photo"
