"""What importing the package sets up."""

import os
import subprocess
import sys

PROGRAM = """
import pwd

def unknown(number):
    raise KeyError(f"uid not found: {number}")

pwd.getpwuid = unknown
import facerecon_lib
import torch._inductor.runtime.cache_dir_utils as cache

print(cache.cache_dir())
"""


def test_a_user_without_a_name_can_load_torch(tmp_path):
    names = ("LOGNAME", "USER", "LNAME", "USERNAME", "TORCHINDUCTOR_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str(tmp_path / "torchinductor_nobody"), done.stderr
