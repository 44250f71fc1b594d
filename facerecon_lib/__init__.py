"""Reconstruct a 3D face from one photo: the library under the course's notebooks.

Each module is one idea and is imported on its own, from the ground up:

    from facerecon_lib.face.camera import pose, project_ndc
    from facerecon_lib.face.lighting import shade

Importing the package itself loads nothing heavy. Units, frames and pixel conventions are those of
`camera.py`; shapes stand in the signatures, frequent ones by the names of `face/shapes.py`.
"""

import getpass as _getpass
import os as _os
from importlib import metadata as _metadata

try:
    __version__ = _metadata.version("facerecon-lib")
except _metadata.PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

try:
    _getpass.getuser()
except (KeyError, ImportError, OSError):  # a user without a name, as of docker run --user 1000
    _os.environ["USER"] = "nobody"  # torch, which names a cache after the user, would not load
