"""Folders of results that appear whole or not at all, and never overwrite a stranger's file.

folder = folder_for(out / "me", result_key, photos)     # before any work: out/me, out/me-2 ...
with replacing(folder, photos) as partial:
    (partial / "result.json").write_text(text)          # out/me changes when the block is left

A folder is ours if its result.json says so: it names the files that we wrote, with their SHA-256. A
file that it does not name, or that somebody changed since, is the user's. Notebook 10: `facerecon
fit` and `facerecon reconstruct` write such folders.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from ..files.downloads import sha256_of
from ..files.errors import FacereconError
from ..files.locks import only_one

ALWAYS = {"mesh.ply", "mesh.glb", "overlay.png", "figure.png", "result.json"}
DETAIL = {"base_mesh.ply", "texture_map.png", "displacement_map.png", "offset_maps.safetensors"}
WRITTEN = ALWAYS | DETAIL
IDENTITY = ("photo_sha256", "method", "face")
"""What makes two results one: the same face of the same photo, by the same method."""

LITTER = {".DS_Store", ".directory", ".ipynb_checkpoints", "Thumbs.db", "desktop.ini"}
LITTER_PREFIXES = ("._", ".nfs")
"""What Finder, KDE, JupyterLab, Explorer, macOS on other disks and NFS leave in any folder."""

WORK = ".facerecon-"


class OutputError(FacereconError):
    """The results cannot be written; the message is one line and says what to do."""


def folder_for(
    folder: Path, identity: Mapping[str, object], photos: Iterable[Path] = (), taken=()
) -> Path:
    """`folder`, or the first of folder-2, folder-3 ... without another photo's or method's result.

    identity: the values of IDENTITY, face None for any. taken: folders of this run, whatever they
    hold. Raises OutputError for the first folder that holds something else than results.
    """
    used = {str(path).casefold() for path in taken}  # some file systems know no capitals
    for number in count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if str(candidate).casefold() in used:
            continue
        check_replaceable(candidate, photos)
        result = _our_result(candidate)
        wanted = {name: identity[name] for name in IDENTITY if identity[name] is not None}
        if result is None or wanted.items() <= result.items():
            return candidate


def check_replaceable(folder: Path, photos: Iterable[Path] = ()) -> None:
    """Raise OutputError unless `folder` is free, or holds our own earlier results and nothing else.

    photos: inputs, which no result replaces.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder}: is there already and is no folder; choose another --out")
    if not folder.is_dir():
        return
    inside = next((p for p in photos if folder.resolve() in p.resolve().parents), None)
    if inside is not None:
        raise OutputError(f"{folder}: holds the photo {inside.name}; choose another --out")
    files = sorted(path for path in folder.iterdir() if not _is_litter(path))
    if not files:
        return
    result = _our_result(folder)
    if result is None:
        raise OutputError(
            f"{folder}: holds {files[0].name}, which facerecon did not write (no result.json of "
            "its own lies there); choose another --out"
        )
    digests = result.get("files", dict.fromkeys(WRITTEN))  # older results name none
    for path in files:
        if path.name != "result.json" and not _is_as_written(path, digests):
            raise OutputError(
                f"{folder}: holds {path.name}, which facerecon did not write, or which was changed "
                "since; choose another --out"
            )


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder, for its result.json."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


@contextmanager
def replacing(folder: Path, photos: Iterable[Path] = ()) -> Iterator[Path]:
    """An empty folder to write into, which takes `folder`'s place unless the block raises.

    OSError in the block or in the exchange becomes OutputError; `folder` is then as it was. What
    systems leave in folders is carried over.
    """
    try:
        with (
            tempfile.TemporaryDirectory(
                prefix=WORK, dir=folder.parent, ignore_cleanup_errors=True
            ) as work,
            only_one(Path(work, "lock")),
        ):
            partial, aside = Path(work, "new"), Path(work, "old", folder.name)
            partial.mkdir()  # with the permissions that the user's umask gives
            aside.parent.mkdir()
            yield partial
            check_replaceable(folder, photos)
            try:
                if folder.is_dir():
                    folder.rename(aside)
                partial.rename(folder)
            except BaseException:
                if aside.is_dir() and not folder.exists():
                    aside.rename(folder)
                raise
            for litter in filter(_is_litter, aside.iterdir() if aside.is_dir() else ()):
                with suppress(OSError):
                    litter.rename(folder / litter.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error


def clean_up(out: Path) -> None:
    """Remove the work folders that a killed run left in `out`; put back what it had set aside."""
    for work in out.glob(f"{WORK}*"):
        with suppress(OSError, Timeout), FileLock(work / "lock", timeout=0):
            if not (work / "old").is_dir() and time.time() - work.stat().st_mtime < 3600:
                continue  # it may just have been made
            for aside in (work / "old").glob("*"):
                if not (out / aside.name).exists():
                    aside.rename(out / aside.name)
            shutil.rmtree(work)


def _is_litter(path: Path) -> bool:
    return path.name in LITTER or path.name.startswith(LITTER_PREFIXES)


def _our_result(folder: Path) -> dict | None:
    """What result.json holds, if facerecon wrote it."""
    try:
        result = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return None
    ours = isinstance(result, dict) and {"version", "units", "photo"} <= set(result)
    return result if ours and isinstance(result.get("files", {}), dict) else None


def _is_as_written(path: Path, digests: Mapping[str, str | None]) -> bool:
    if path.is_symlink() or not path.is_file() or path.name not in digests:
        return False
    digest = digests[path.name]
    return digest is None or sha256_of(path) == digest
