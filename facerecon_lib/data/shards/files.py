"""Shards of photos, on disk and on the net: which there are, what is in them, and their bytes.

    shards = find_shards("shards/")                       # or a brace pattern, a list, addresses
    for sample in read_samples(shards[0].address, note):  # {"__key__", "jpg", "json"}, bytes
        ...

A shard is a tar file as webdataset reads and writes it. `index.json` beside the shards lists the
photos of each, to count them before anything is read; a local shard that it lacks is looked through
instead. Addresses: a path; `http(s)://`; `pipe:` with a shell command whose output is the shard (it
runs as it stands: name only commands you trust); and what else webdataset opens. Remote shards are
copied whole. Notebook 06, section 2.1.
"""

import contextlib
import glob
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from ...files.atomic import write_whole
from ...files.downloads import DownloadError, copy
from ...files.errors import FacereconError, one_line

INDEX = "index.json"
INDEX_FORMAT = "facerecon photo shards 1"
IN_MEMORY = 2**26  # bytes of a copied shard; beyond, it goes to the disk


class ShardsError(FacereconError):
    """Unusable shards. One line: which, what is wrong, what to do."""


@dataclass(frozen=True)
class Shard:
    """An address; where known, its bytes and the (key, person) of each photo in it."""

    address: str
    bytes: int | None = None
    photos: tuple[tuple[str, str], ...] | None = None

    @property
    def name(self) -> str:
        return shard_name(self.address)


def shard_name(address: str) -> str:
    """The last part of the address without its query, for messages and samples' names."""
    return address.partition("?")[0].rstrip("/").rpartition("/")[2]


def webdataset():
    """The package, from the extra `train`. Raises ShardsError where it is missing."""
    try:
        import webdataset
    except ImportError:
        raise ShardsError(
            "shards need webdataset: pip install webdataset (or facerecon-lib[train])"
        ) from None
    return webdataset


def is_local(address: str) -> bool:
    """Whether the address is a path: any scheme has two letters or more, a Windows drive one."""
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", address)


# Which there are --------------------------------------------------------------------------------


def find_shards(source: str | Path | Sequence[str | Path]) -> list[Shard]:
    """The shards of a folder, a pattern ("a-{000..113}.tar", "a-*.tar"), a list, or an address.

    An http address that ends in "/" stands for all shards of the index there. Raises ShardsError.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    addresses = [address for one in sources for address in _expand(os.fspath(one))]
    addresses = [Path(a).as_posix() if is_local(a) else a for a in addresses]
    if not addresses:
        raise ShardsError(f"{source}: names no shard; give a folder, a pattern or a list")
    address, times = Counter(addresses).most_common(1)[0]
    if times > 1:
        raise ShardsError(f"{address}: is named {times} times; name each shard once")
    if missing := [a for a in addresses if is_local(a) and not Path(a).is_file()]:
        count = f"{len(missing)} of {len(addresses)} are missing"
        raise ShardsError(f"{missing[0]}: there is no such shard ({count}); check the name")
    indices: dict[str, dict[str, dict]] = {}
    return [_shard(address, indices) for address in addresses]


def digest_of(shards: Sequence[Shard]) -> str:
    """SHA-256 of the names, bytes and photos of shards in their order: the same at any place."""
    facts = [(shard.name, shard.bytes, shard.photos) for shard in shards]
    return sha256(json.dumps(facts).encode()).hexdigest()


def _expand(source: str) -> list[str]:
    """Addresses that a source names: a folder's shards, a pattern's expansion, or itself."""
    source = source.removeprefix("file://")
    if re.match(r"https?://.*/$", source):
        if entries := _read_index(source):
            return [source + name for name in sorted(entries)]
        raise ShardsError(f"{source}: no {INDEX} with shards is there; give a brace pattern")
    if re.match(r"https?://", source) and "." not in shard_name(source.partition("//")[2]):
        raise ShardsError(f"{source}: names no shard (*.tar); the address of a folder ends in /")
    if is_local(source) and not re.search(r"[{*?]", source):
        if Path(source).is_dir():
            if shards := _local_shards(Path(source)):
                return [path.as_posix() for path in shards]
            raise ShardsError(f"{source}: holds no shard (*.tar); prepare the photos first")
        if not Path(source).exists() and not source.endswith(".tar"):
            raise ShardsError(f"{source}: there is no such folder; check the name")
        return [source]
    try:
        addresses = webdataset().shardlists.expand_urls(source)
    except ValueError as error:  # braces that do not close
        raise ShardsError(f"{source}: is not a pattern of shards ({error})") from None
    expanded = []
    for address in addresses:
        pattern = is_local(address) and re.search(r"[*?]", address)
        expanded += sorted(glob.glob(address)) if pattern else [address]
    if expanded:
        return expanded
    raise ShardsError(f"{source}: no shard matches; check the pattern and the folder")


def _local_shards(folder: Path) -> list[Path]:
    """Sorted, without hidden files (macOS puts some beside others)."""
    return sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))


def _shard(address: str, indices: dict) -> Shard:
    """A shard by the index beside it; `indices` caches these."""
    if not is_local(address) and not address.startswith("http"):
        return Shard(address)
    folder = address[: len(address.partition("?")[0]) - len(shard_name(address))]
    if folder not in indices:
        indices[folder] = _read_index(folder)
    entry = indices[folder].get(shard_name(address))
    if is_local(address) and (entry is None or entry["bytes"] != os.path.getsize(address)):
        entry = index_entry(Path(address))
    if entry is None:
        return Shard(address)
    return Shard(address, entry["bytes"], tuple(map(tuple, entry["photos"])))


def _read_index(folder: str) -> dict[str, dict]:
    """Entries of the index in a folder or under an address, by shard; {} where there is none."""
    place = folder + INDEX if folder.endswith("/") else str(Path(folder, INDEX))
    if is_local(place) and not Path(place).exists():
        return {}
    try:
        with open_shard(place) as file:
            data = file.read()
    except ShardsError as error:
        status = getattr(error.__cause__, "status", None)
        if status is not None and status < 500:  # servers answer 403, 404 or 410
            return {}
        raise
    try:
        index = json.loads(data)
        if index["format"] != INDEX_FORMAT:
            raise ValueError(f"its format is {index['format']!r}")
        entries = {entry["name"]: entry for entry in index["shards"]}
        for name, entry in entries.items():
            if not re.fullmatch(r"\w[\w.+-]*", name):  # it becomes part of an address
                raise ValueError(f"{name!r} is no shard's name")
            entry["photos"] = [(str(key), str(person)) for key, person in entry["photos"]]
            entry["bytes"] = int(entry["bytes"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"is no index of {INDEX_FORMAT!r} ({one_line(error)})"
        raise ShardsError(f"{place}: {reason}; make it again with write_index") from None
    return entries


def index_entry(path: Path) -> dict:
    """Name, bytes, and each (key, person) of a local shard, read without its pictures.

    Photos without a person, and those behind a cut, are left out, as in reading. Raises ShardsError
    for a file that is no tar.
    """
    split_name = webdataset().tariterators.base_plus_ext
    photos = []
    try:
        with tarfile.open(path) as tar, contextlib.suppress(tarfile.ReadError):
            for member in tar:
                key, extension = split_name(member.name)
                if extension == "json" and (file := tar.extractfile(member)) is not None:
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        person = json.loads(file.read())["person"]
                        photos += [[key, person]] if isinstance(person, str) and person else []
    except tarfile.TarError:  # its text is of every kind of compression
        raise ShardsError(f"{path}: is not a tar file; make it again") from None
    except OSError as error:
        raise ShardsError(f"{path}: cannot be read ({error.strerror or error})") from None
    return {"name": path.name, "bytes": path.stat().st_size, "photos": photos}


def write_index(folder: Path) -> Path:
    """Write `folder`/index.json, of all shards there, whole or not at all; returns its path.

    Shards of the size that the old index tells are not read again.
    """
    old, entries = {}, []
    with contextlib.suppress(ShardsError):  # a damaged index is replaced
        old = _read_index(folder.as_posix())
    for path in _local_shards(folder):
        entry = old.get(path.name, {})
        fresh = entry.get("bytes") == path.stat().st_size
        entries.append(entry if fresh else index_entry(path))
    text = json.dumps({"format": INDEX_FORMAT, "shards": entries}, separators=(",", ":"))
    with write_whole(folder / INDEX) as partial:
        partial.write_text(text)
    return folder / INDEX


# Their bytes ------------------------------------------------------------------------------------


def read_samples(address: str, note: Callable[[str, str], None]) -> Iterator[dict]:
    """The samples of a shard in their order: "__key__", and the bytes of each file by extension.

    `note(name, reason)` is called for the lost rest of a shard that is cut short.
    Raises ShardsError for an unreadable address and for a file that is no tar.
    """
    tar, count, broken = webdataset().tariterators, 0, []

    def leave_out(error: Exception) -> bool:
        broken.append(one_line(error.args[0] if error.args else error))
        return False  # do not trust the rest of this shard

    with open_shard(address) as stream:
        files = tar.tar_file_expander([dict(url=address, stream=stream)], handler=leave_out)
        for sample in tar.group_by_keys(files, handler=leave_out):
            count += 1
            yield sample
    if broken and not count:
        raise ShardsError(f"{address}: is not a tar file ({broken[0]}); make it again")
    if broken:
        note(shard_name(address), f"the shard is damaged after {count} photos ({broken[0]})")


@contextlib.contextmanager
def open_shard(address: str) -> Iterator[BinaryIO]:
    """The bytes at an address, as a file. Raises ShardsError, one line, if they cannot be read."""
    local = is_local(address)
    with contextlib.ExitStack() as stack:
        try:
            if local:
                file = stack.enter_context(open(address, "rb"))
            else:
                file = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
                if address.startswith(("http://", "https://")):
                    copy(address, file)
                else:
                    with webdataset().gopen(address, "rb") as stream:
                        shutil.copyfileobj(stream, file)
                file.seek(0)
        except DownloadError as error:
            raise ShardsError(str(error)) from error
        except (OSError, ValueError) as error:  # ValueError: an unknown scheme
            reason = error.strerror if local else one_line(error)
            if status := re.search(r"exit \d+", reason):  # of a command, which webdataset repeats
                reason = f"the command ends with {status[0]}"
            raise ShardsError(f"{address}: cannot be read ({reason})") from error
        yield file
