"""A folder of photos: which there are, who is on them, and what CACD2000 says of them.

    photos = list_photos(Path("CACD2000"), read_meta(Path("celebrity2000_meta.mat")))

Files of CACD2000 are called `<age>_<First_Last>_<nnnn>.jpg`. Its `celebrity2000_meta.mat` (MATLAB
5; `celebrity2000.mat` is MATLAB 7.3, an HDF5 file) holds two structs of columns: celebrityImageData
with name (the file's), identity, age, year and rank, and celebrityData with name (the person's) and
identity. Elsewhere a photo's person is its sub-folder, or the photo itself where there is none.

Notebook 06, section 2.3.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from facerecon_lib.files.errors import FacereconError, one_line
from facerecon_lib.photos.folders import Listing, list_folder

CACD_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<person>.+)_(?P<number>\d{4})")
META_NAMES = ("celebrity2000_meta.mat", "celebrity2000.mat")
IMAGES, PEOPLE = "celebrityImageData", "celebrityData"  # structs of the table
ABOUT = ("age", "identity", "year", "rank")
COLUMNS = ("name", *ABOUT)

Meta = dict[str, tuple[str, dict[str, int]]]
"""By a photo's file name: who is on it ("" where the table does not say), and some of ABOUT."""


class FolderError(FacereconError):
    """An unusable folder or table."""


@dataclass(frozen=True)
class Photo:
    """A file that is called as a photo is."""

    path: Path
    name: str  # relative to the folder, for people: bytes that are no text are escaped
    key: str  # what the shards call it: letters, digits, - and _
    person: str
    about: dict[str, int] = field(default_factory=dict)  # some of ABOUT


@dataclass(frozen=True)
class PhotoFolder(Listing):
    """The photos in an order of their own; what else lies there."""

    photos: list[Photo]

    def digest(self) -> str:
        """Of which photos there are, and who is on them."""
        lines = (f"{p.name}\t{p.key}\t{p.person}" for p in self.photos)
        return sha256("\n".join(lines).encode()).hexdigest()[:32]


def list_photos(source: Path, meta: Meta | None = None) -> PhotoFolder:
    """All photos under `source`, hidden ones left out; links to folders are not followed.

    Sorted by a hash of their names: the same everywhere, and as good as shuffled, so that shards
    are alike (by name, CACD2000 is sorted by age). Raises FolderError where there is no photo.
    """
    if not source.is_dir():
        what = "is no folder" if source.exists() else "there is no such folder"
        raise FolderError(f"{source}: {what}; name the folder that holds the photos")
    listing = list_folder(source)
    paths, others, unread = listing.photos, listing.other_files, map(printable, listing.unread)
    if not paths:
        raise FolderError(f"{source}: holds no photo ({others} other files); check the folder")
    paths.sort(key=lambda path: sha256(os.fsencode(path.relative_to(source).as_posix())).digest())
    stems = Counter(path.stem.casefold() for path in paths)
    photos = [_photo(path, source, stems[path.stem.casefold()] == 1, meta or {}) for path in paths]
    return PhotoFolder(photos, others, list(unread))


def _photo(path: Path, source: Path, alone: bool, meta: Meta) -> Photo:
    relative = path.relative_to(source)
    person, about = path.stem if len(relative.parts) == 1 else relative.parts[-2], {}
    if cacd := CACD_NAME.fullmatch(path.stem):
        person, about = cacd["person"], {"age": int(cacd["age"])}
    listed, about = meta.get(unicodedata.normalize("NFC", path.name), ("", about))
    person = printable(unicodedata.normalize("NFC", listed or person)).strip().replace(" ", "_")
    key = _key(relative, alone)
    return Photo(path, printable(relative.as_posix()), key, person or "nobody", dict(about))


def _key(relative: Path, alone: bool) -> str:
    """The stem where it will do; else what is left of it, and a part of the name's hash."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", printable(relative.stem)).lstrip("_-")
    if alone and stem == relative.stem and len(stem) <= 80:
        return stem
    digest = sha256(os.fsencode(relative.as_posix())).hexdigest()[:16]
    return f"{stem[:63]}-{digest}".lstrip("-")


def printable(name: str) -> str:
    """On one line; what is no character, as an escape."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def find_meta(source: Path) -> Path | None:
    """CACD2000's table in the folder of photos or beside it."""
    places = (folder / name for folder in (source, source.absolute().parent) for name in META_NAMES)
    return next((path for path in places if path.is_file()), None)


def read_meta(path: Path) -> Meta:
    """CACD2000's table. Raises FolderError for another file."""
    try:
        with path.open("rb") as file:
            head = file.read(128)
        read = _read_hdf5 if b"MATLAB 7.3" in head or head[:4] == b"\x89HDF" else _read_matlab5
        images, people = read(path)
        pairs = zip(people["identity"], people["name"], strict=True)
        names = {int(identity): str(name) for identity, name in pairs}
        file_names, columns = images.pop("name"), images.values()
        table = {}
        if len({len(file_names), *map(len, columns)}) > 1:
            raise ValueError("its columns are of several lengths")
        for file_name, *values in zip(file_names, *columns, strict=True):
            about = dict(zip(images, map(int, values), strict=True))
            person = names.get(about.get("identity", -1), "")
            table[unicodedata.normalize("NFC", str(file_name))] = person, about
        return table
    except FolderError:
        raise
    except OSError as error:
        raise FolderError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # of a damaged file the readers raise types of every kind
        reason = "it lacks " * isinstance(error, KeyError) + one_line(error)[:120]
        todo = "get it again, or give --meta none"
        raise FolderError(f"{path}: is not CACD2000's table ({reason}); {todo}") from None


def _read_matlab5(path: Path) -> Iterator[dict]:
    """The COLUMNS of IMAGES, and of PEOPLE."""
    from scipy.io import loadmat

    file = loadmat(path, variable_names=[IMAGES, PEOPLE], simplify_cells=True)
    if not isinstance(file[IMAGES], dict):
        raise FolderError(f"{path}: its {IMAGES} is no struct; get the file again")
    for struct in (file[IMAGES], file[PEOPLE]):
        yield {name: np.atleast_1d(struct[name]) for name in COLUMNS if name in struct}


def _read_hdf5(path: Path) -> Iterator[dict]:
    """The same; a cell array is one of references there, and text one of 16-bit characters."""
    try:
        import h5py
    except ImportError:
        raise FolderError(f"{path}: is a MATLAB 7.3 file: pip install h5py") from None

    with h5py.File(path, "r") as file:

        def text(reference) -> str:
            return "".join(map(chr, np.asarray(file[reference]).ravel()))

        for struct in (file[IMAGES], file[PEOPLE]):
            columns = {name: struct[name][()].ravel() for name in COLUMNS if name in struct}
            columns["name"] = [text(reference) for reference in columns["name"]]
            yield columns
