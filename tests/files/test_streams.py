"""Streams that cannot take what a command prints: nothing ends, nothing else is lost."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(p for p in (ROOT / "data_scripts").glob("*.py") if p.name != "colab_setup.py")

PROGRAM = """
import contextlib, os, sys, typer
from rich.console import Console
from facerecon_lib.files.streams import forgive_streams

forgive_streams()
for console in (Console(), Console(stderr=True)):
    console.print("a – b")
    print("\\N{CYRILLIC SMALL LETTER EF}", "\\udce9", file=console.file, flush=True)
typer.echo("x" * 100_000)
typer.echo("an error", err=True)
sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty()
with open("result", "w") as file:
    file.write(f"{file.fileno() > 2} ")
    for number in (1, 2):
        with contextlib.suppress(OSError):
            os.write(number, b"C prints")
    file.write("written")
"""


def run(folder: Path, redirect: str, **environment: str) -> subprocess.CompletedProcess:
    """The program, in a shell; what it wrote is whole."""
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        ["bash", "-c", f'"$0" "$@" {redirect}', sys.executable, "-c", PROGRAM],
        cwd=folder, capture_output=True, env=os.environ | {"PYTHONPATH": path} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "result").read_text() == "True written"
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    return done


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-", "<&- >&- 2>&-", "| true", "2<&0"])
def test_a_stream_that_takes_nothing_ends_no_command(tmp_path, redirect):
    run(tmp_path, redirect)


def test_lines_of_stdout_that_are_lost_are_told_of_once(tmp_path):
    done = run(tmp_path, ">/dev/full")
    assert done.stderr.count(b"stdout: lines are lost (No space left on device)\n") == 1
    assert b"an error" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict", "latin-1"])
def test_what_an_encoding_lacks_is_escaped(tmp_path, encoding):
    done = run(tmp_path, "", PYTHONIOENCODING=encoding)
    name = "ф".encode(encoding.partition(":")[0], "backslashreplace")
    for output in (done.stdout, done.stderr):
        assert name + b" \\udce9" in output


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_forgives_its_streams_first(script):
    *_, start = ast.parse(script.read_text()).body
    assert ast.unparse(start.test) == "__name__ == '__main__'"
    assert ast.unparse(start.body[0]) == "forgive_streams()"
