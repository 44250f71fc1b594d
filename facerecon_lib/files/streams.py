"""What a command prints never ends it: on a full disk, a closed pipe, in any encoding.

    if __name__ == "__main__":
        forgive_streams()
        typer.run(main)

Every command calls it first; the library and the notebooks leave the streams as they are.
"""

import contextlib
import errno
import io
import os
import sys


class _LossyFile(io.FileIO):
    """Drops what cannot be written; of stdout, stderr says so once."""

    lost = False

    def write(self, data) -> int:
        try:
            written = super().write(data)
        except OSError as error:
            written = None
            if not (self.lost or error.errno == errno.EPIPE):
                with contextlib.suppress(OSError):
                    os.write(2, f"stdout: lines are lost ({error.strerror})\n".encode())
            self.lost = True
        return len(data) if written is None else written


def forgive_streams() -> None:
    """Drop what stdout and stderr cannot take, and escape what their encoding lacks.

    A stream that is closed becomes the null device: no file may get its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            null = open(os.devnull, mode, errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, null)
        elif name != "stdin" and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _forgiving(stream))


def _forgiving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    if type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:  # a Windows console
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_LossyFile(stream.fileno(), "w", closefd=False)),
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
