"""Which files of a folder are photos: one answer for all that take a folder.

    listing = list_folder(Path("photos"))
    listing.photos, listing.passed_over()        # paths; "2 other files are passed over"

Notebook 06, section 2.3.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif"}
PHOTO_SUFFIXES |= {".tiff", ".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Listing:
    """The photos in a folder and below it, by name, and what else lies there."""

    photos: list[Path]
    other_files: int
    unread: list[str]  # sub-folders that could not be looked into, relative to the folder

    def passed_over(self) -> str:
        """What is left out, for people; empty where nothing is."""
        files = "other file is" if self.other_files == 1 else "other files are"
        parts = [f"{self.other_files:,} {files} passed over"] * (self.other_files > 0)
        if self.unread:
            parts.append(f"{len(self.unread)} sub-folders cannot be read: {self.unread[0]}")
        return "; ".join(parts)


def list_folder(folder: Path) -> Listing:
    """The photos, told by their names; hidden ones are left out, links to folders not followed."""
    photos, others, unread = [], 0, []
    for place, folders, files in os.walk(folder, onerror=lambda e: unread.append(str(e.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            photo = not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES
            photos += [Path(place, name)] * photo
            others += not photo
    return Listing(sorted(photos), others, sorted(os.path.relpath(path, folder) for path in unread))
