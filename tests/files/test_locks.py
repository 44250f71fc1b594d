"""Locks: one process at a time, and none is left behind by a process that dies."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.locks import only_one

HOLDER = """
import sys, time
from pathlib import Path
from facerecon_lib.files.locks import only_one
with only_one(Path(sys.argv[1])):
    print("here", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_the_holder_dies(tmp_path):
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "here\n"
    with pytest.raises(FacereconError, match="busy"), only_one(path, "busy"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with only_one(path, "busy"):
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_without_a_refusal_it_waits(tmp_path):
    order = []

    def second():
        with only_one(tmp_path / ".lock"):
            order.append("second")

    with only_one(tmp_path / ".lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_a_file_system_without_locks_holds_nobody_up(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(37, os.strerror(37))  # ENOLCK, of NFS

    monkeypatch.setattr(fcntl, "flock", none)
    for _ in range(2):
        with only_one(tmp_path / ".lock", "busy"):
            pass
    with only_one(tmp_path / "nowhere" / ".lock", "busy"):
        pass
