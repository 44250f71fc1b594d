"""Reading shards: everybody gets a share of their own, in an order that can be resumed."""

import io
import itertools
import json
import logging
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

pytest.importorskip("webdataset")

from written_shards import KEYS, ShardsWriter, crop_of, keys, person, rewrite, write_folder

from facerecon_lib.data.shards import reader
from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.splits import part_of

# Parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["random", "person"])
def test_the_parts_are_disjoint_and_together_everything(shards: Path, split: str):
    every = []
    for part in ("train", "validation", "test"):
        photos = PhotoShards(shards, 4, part=part, split=split, complete=True)
        some = keys(photos)
        assert photos.photos == len(some) > 0
        assert {part_of(key, person(key), split) for key in some} == {part}
        every += some
    assert sorted(every) == KEYS


def test_a_part_is_the_same_in_smaller_shards_and_without_an_index(shards: Path, tmp_path: Path):
    write_folder(tmp_path, per_shard=5)
    (tmp_path / "index.json").unlink()
    one, other = (PhotoShards(f, 4, part="train", complete=True) for f in (shards, tmp_path))
    assert one.photos == other.photos
    assert keys(one) == keys(other)


# Shares -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_the_ranks_share_out_an_epoch(shards: Path, workers: int):
    seen = []
    for rank in range(3):
        photos = PhotoShards(shards, 4, rank=rank, world=3, workers=workers, seed=5)
        batches = list(photos)
        assert len(batches) == len(photos) == 2
        seen += keys(batches)
    assert sorted(seen) == KEYS


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("part", [None, "train"])
def test_every_rank_takes_as_many_batches_of_one_size(shards: Path, world: int, part: str | None):
    every = []
    for rank in range(world):
        photos = PhotoShards(shards, 3, part=part, rank=rank, world=world)
        for _ in range(2):
            batches = list(photos)
            assert [len(batch) for batch in batches] == [3] * len(photos)
            assert len(photos) == photos.photos // (3 * world)
        every.append(set(keys(batches)))
    for one, other in itertools.combinations(every, 2):
        assert not one & other


def test_one_process_sees_every_photo_once_an_epoch(shards: Path):
    photos = PhotoShards(shards, 4, shuffle=6)
    first, second = keys(photos), keys(photos)
    assert sorted(first) == sorted(second) == KEYS
    assert first != KEYS
    assert first != second
    assert first == keys(PhotoShards(shards, 4, shuffle=6))
    assert first != keys(PhotoShards(shards, 4, shuffle=6, seed=1))
    assert keys(PhotoShards(shards, 4, shuffle=0)) == KEYS


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2, 5])
def test_a_complete_pass_has_every_photo_once(shards: Path, workers: int):
    photos = PhotoShards(shards, 5, workers=workers, complete=True)
    assert sorted(keys(photos)) == KEYS
    assert sorted(keys(photos)) == KEYS
    ranks = [PhotoShards(shards, 5, rank=rank, world=5, complete=True) for rank in range(5)]
    assert sorted(itertools.chain(*map(keys, ranks))) == KEYS
    with pytest.raises(TypeError, match="no length"):
        len(photos)


def test_reading_leaves_the_random_numbers_of_training_alone(shards: Path):
    before = torch.get_rng_state()
    list(PhotoShards(shards, 8))
    assert torch.equal(torch.get_rng_state(), before)


# Going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(shards: Path, workers: int):
    def opened() -> PhotoShards:
        order = dict(part="train", split="person", seed=7, shuffle=5, workers=workers)
        return PhotoShards(shards, 2, **order)

    whole, states, photos = [], [], opened()
    for _ in range(2):
        for batch in photos:
            whole.append(batch)
            states.append(json.loads(json.dumps(photos.state_dict())))
    for taken in (1, 4, len(whole) // 2, len(whole) // 2 + 1):
        resumed = opened()
        resumed.load_state_dict(states[taken - 1])
        rest = []
        while resumed.epoch < 2:
            rest += list(resumed)
        assert [b.names for b in rest] == [b.names for b in whole[taken:]]
        assert all(torch.equal(a.image, b.image) for a, b in zip(rest, whole[taken:], strict=True))


def test_what_was_seen_is_not_decoded_again(shards: Path, monkeypatch: pytest.MonkeyPatch):
    photos, decoded, decode = PhotoShards(shards, 4), [], reader.decode_photo
    counting = lambda photo: decoded.append(photo.key) or decode(photo)  # noqa: E731
    monkeypatch.setattr(reader, "decode_photo", counting)
    photos.load_state_dict(photos.state_dict() | {"taken": 5})
    assert keys(photos) == decoded
    assert len(decoded) == 4


def test_a_loop_that_is_left_and_entered_again_goes_on(shards: Path):
    whole = keys(PhotoShards(shards, 4))
    photos = PhotoShards(shards, 4)
    start = keys(itertools.islice(photos, 2))
    assert start + keys(photos) == whole
    assert photos.epoch == 1


def test_a_state_for_another_order_is_refused(shards: Path):
    state = PhotoShards(shards, 4, seed=1).state_dict()
    with pytest.raises(ShardsError, match="taken with seed = 1, and now it is 0"):
        PhotoShards(shards, 4).load_state_dict(state)
    with pytest.raises(ShardsError, match="taken with batches = 6, and now it is 5"):
        PhotoShards(shards, 4, seed=1, photos_per_epoch=20).load_state_dict(state)
    PhotoShards(shards, 4, seed=1, rank=0).load_state_dict(state)


def test_shards_are_known_by_what_they_are_wherever_they_lie(
    shards: Path, copy: Path, address: str, tmp_path: Path
):
    state = PhotoShards(shards, 4).state_dict()
    for place in (copy, str(copy / "photos-{00000..00002}.tar"), address):
        PhotoShards(place, 4).load_state_dict(state)
    (copy / "index.json").unlink()
    PhotoShards(copy, 4).load_state_dict(state)
    renamed = write_folder(tmp_path / "renamed", prefix="faces")
    other = write_folder(tmp_path / "other", keys=KEYS[::-1])  # of the same names and sizes
    for place in (renamed, other, [shards / "photos-00000.tar"]):
        with pytest.raises(ShardsError, match="other shards: the saved state was taken with"):
            PhotoShards(place, 4).load_state_dict(state)


# Batches that do not come -----------------------------------------------------------------------


def test_shared_memory_that_cannot_hold_the_batches_is_refused(shards: Path, monkeypatch):
    photos = PhotoShards(shards, 4, workers=2)
    batch = 4 * reader.PHOTO_BYTES + reader.PAGES_BYTES
    for free, processes, fits in ((5 * batch, 1, None), (5 * batch - 1, 1, 1), (9 * batch, 2, 1)):
        space = SimpleNamespace(free=free)
        monkeypatch.setattr(reader.shutil, "disk_usage", lambda place, space=space: space)
        if fits is None:
            photos.check_shared_memory(processes)
            continue
        with pytest.raises(ShardsError, match=rf"--workers {fits}, or .* --shm-size=\d+m$"):
            photos.check_shared_memory(processes)
        PhotoShards(shards, 4).check_shared_memory(processes)  # reads in its own process


def no_memory(tensor: torch.Tensor) -> None:
    raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")


def of_one_worker(change: Callable[[Iterator[dict]], Iterator[dict]]) -> Callable:
    """`_Reader.__iter__` whose items `change` gets, in the worker of number 1."""
    items = reader._Reader.__iter__

    def changed(self) -> Iterator[dict]:
        worker = torch.utils.data.get_worker_info()
        return change(items(self)) if worker.id == 1 else items(self)

    return changed


def without_the_second(items: Iterator[dict]) -> Iterator[dict]:
    return (item for i, item in enumerate(items) if i != 1)


def without_the_last(items: Iterator[dict]) -> Iterator[dict]:
    *most, _, end = items
    return iter([*most, end])


def late(items: Iterator[dict]) -> Iterator[dict]:
    time.sleep(3)
    yield from items


def killed(items: Iterator[dict]) -> Iterator[dict]:
    yield next(items)
    os.kill(os.getpid(), signal.SIGKILL)


def short_of_memory(items: Iterator[dict]) -> Iterator[dict]:
    yield next(items)
    raise MemoryError


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_the_second, "is missing|of 6 came"),
        (without_the_last, "is missing|of 6 came"),
        (late, "timed out after 1 seconds"),
        (killed, "killed by signal|exited unexpectedly"),
        (short_of_memory, "MemoryError"),
        (None, "No space left on device"),
    ],
)
def test_a_batch_that_does_not_come_is_one_line(
    shards: Path, monkeypatch, change, reason: str, complete: bool
):
    """And those before it are the ones that would have come."""
    whole = [batch.names for batch in PhotoShards(shards, 4, workers=2, complete=complete)]
    monkeypatch.setattr(reader, "PATIENCE_S", 1)
    if change is None:
        monkeypatch.setattr(torch.Tensor, "share_memory_", no_memory)
    else:
        monkeypatch.setattr(reader._Reader, "__iter__", of_one_worker(change))
    photos, names = PhotoShards(shards, 4, workers=2, complete=complete), []
    with pytest.raises(ShardsError, match=rf"a batch of its 2 workers is lost \(.*({reason})") as e:
        names += (batch.names for batch in photos)
    assert "\n" not in str(e.value)
    if not complete:
        assert names == whole[: len(names)]
        assert photos.state_dict()["taken"] == len(names) < len(whole)


# Damage -----------------------------------------------------------------------------------------


def damage(name: str, data: bytes) -> bytes | None:
    """Of shard 1: a flipped byte in a picture, a missing json, half a json, foreign landmarks."""
    if name == "photo_09.jpg":
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    if name == "photo_10.json":
        return None
    if name == "photo_11.json":
        return data[: len(data) // 2]
    if name == "photo_12.json":
        return json.dumps(json.loads(data) | {"landmarks": [[1.0, 2.0]]}).encode()
    return data


def replace_photo_09(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Another picture, from a writer that keeps no checksum."""

    def changed(name: str, data: bytes) -> bytes:
        if name == "photo_09.json":
            return json.dumps(json.loads(data) | {"crc32": None}).encode()
        return change(data) if name == "photo_09.jpg" else data

    rewrite(folder / "photos-00001.tar", changed)


LEFT = [key for key in KEYS if key not in ("photo_09", "photo_10", "photo_11", "photo_12")]


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_photos_are_left_out_and_counted(
    copy: Path, workers: int, caplog: pytest.LogCaptureFixture
):
    rewrite(copy / "photos-00001.tar", damage)
    photos = PhotoShards(copy, 5, workers=workers, complete=True)
    with caplog.at_level(logging.WARNING):
        assert sorted(keys(photos)) == LEFT
    reasons = (
        "jpg is damaged",
        "json is missing",
        "json is damaged",
        "landmarks are not 68 finite",
    )
    for number, reason in enumerate(reasons, 9):
        assert photos.damaged[f"photos-00001.tar/photo_{number:02d}"].startswith(f"its {reason}")
    assert len(caplog.messages) == 1
    assert "and 3 more left out" in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    caplog.clear()
    assert sorted(keys(photos)) == LEFT  # and is not told again
    assert caplog.messages == []


def test_training_goes_on_with_damaged_photos_and_resumes_exactly(copy: Path):
    rewrite(copy / "photos-00001.tar", damage)
    photos = PhotoShards(copy, 4, photos_per_epoch=24)
    batches = list(photos)
    assert [len(batch) for batch in batches] == [4] * 6
    assert set(keys(batches)) == set(LEFT)
    resumed = PhotoShards(copy, 4, photos_per_epoch=24)
    resumed.load_state_dict(resumed.state_dict() | {"taken": 4})
    assert [b.names for b in resumed] == [b.names for b in batches[4:]]


def test_a_picture_that_does_not_decode_is_replaced_from_its_batch(copy: Path):
    whole = [batch.names for batch in PhotoShards(copy, 4)]
    replace_photo_09(copy, lambda jpeg: jpeg[: len(jpeg) // 2])
    photos = PhotoShards(copy, 4)
    for names, batch in zip(whole, photos, strict=True):
        left = [name for name in names if not name.endswith("photo_09")]
        assert batch.names == (left + left[:1] if len(left) < 4 else names)
    assert photos.damaged == {"photos-00001.tar/photo_09": "its jpg is damaged"}
    assert len(keys(PhotoShards(copy, 4, complete=True))) == 23


def test_a_picture_of_another_size_is_left_out(copy: Path):
    small = io.BytesIO()
    Image.new("RGB", (96, 80)).save(small, "JPEG")
    replace_photo_09(copy, lambda jpeg: small.getvalue())
    photos = PhotoShards(copy, 4, complete=True)
    assert "photo_09" not in keys(photos)
    assert list(photos.damaged.values()) == ["its jpg has 96 x 80 pixels, not 224 x 224"]


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_a_shard_that_is_cut_short_gives_what_is_whole(copy: Path, share: float):
    shard = copy / "photos-00001.tar"
    shard.write_bytes(shard.read_bytes()[: int(share * shard.stat().st_size)])
    photos = PhotoShards(copy, 4, complete=True)
    found = keys(photos)
    assert found[:8] == KEYS[:8]
    assert found[-8:] == KEYS[16:]
    assert 8 * share - 2 < len(found) - 16 < 8 * share + 1
    assert any("damaged after" in reason for reason in photos.damaged.values())


def test_photos_that_the_index_promises_and_the_shard_lacks_are_reported(copy: Path):
    """Garbage where a header should be ends a tar file without a word."""
    shard = copy / "photos-00001.tar"
    with tarfile.open(shard) as tar:
        offset = tar.getmember("photo_12.jpg").offset
    data = bytearray(shard.read_bytes())
    data[offset : offset + 512] = bytes(range(256)) * 2
    shard.write_bytes(data)
    photos = PhotoShards(copy, 4, complete=True)
    assert keys(photos) == KEYS[:12] + KEYS[16:]
    assert photos.damaged == {"photos-00001.tar": "holds 4 of its 8 photos"}


def test_two_kinds_of_landmarks_do_not_mix(tmp_path: Path):
    with ShardsWriter(tmp_path) as writer:
        for key, kind in zip(KEYS, ["2d", "3d"], strict=False):
            writer.write(key, crop_of(0), kind, "somebody", "a.jpg")
    with pytest.raises(ShardsError, match=r"photo_00 has 2d landmarks and .*photo_01 3d ones"):
        list(PhotoShards(tmp_path, 2))


# Refusals -----------------------------------------------------------------------------------------


def test_an_error_in_a_worker_is_one_line_too(shards: Path):
    sources = ["pipe:exit 3", f"pipe:cat {shards}/photos-00000.tar"]
    with pytest.raises(ShardsError, match="exit 3") as raised:
        list(PhotoShards(sources, 4, photos_per_epoch=8, workers=2))
    assert "\n" not in str(raised.value)


def test_what_is_too_little_is_said_before_the_first_batch(shards: Path, tmp_path: Path):
    one = write_folder(tmp_path, KEYS[:1])
    other = "test" if part_of(KEYS[0]) == "train" else "train"
    for source, batch, options, message in (
        (one, 1, dict(part=other), rf"no photo of the part '{other}' \(split='random'\)"),
        (shards, 1, dict(world=4), "3 shards for 4 processes"),
        (shards, 13, dict(world=2), "24 photos are fewer than one batch of 13 for each of 2"),
        (f"pipe:cat {shards}/photos-00000.tar", 4, {}, "give photos_per_epoch"),
    ):
        with pytest.raises(ShardsError, match=message):
            PhotoShards(source, batch, **options)
    with pytest.raises(ShardsError, match="no usable photo of the part"):
        list(PhotoShards(f"pipe:cat {one}/photos-00000.tar", 1, part=other, photos_per_epoch=1))


def test_arguments_out_of_range_are_named(shards: Path):
    for arguments, message in (
        (dict(batch_size=0), "batch_size: expected at least 1, got 0"),
        (dict(rank=2, world=2), "world: expected at least 3, got 2"),
        (dict(part="training"), "part: expected one of train, validation, test"),
        (dict(split="people"), "split: expected 'random' or 'person'"),
    ):
        with pytest.raises(ValueError, match=message):
            PhotoShards(shards, **({"batch_size": 4} | arguments))
