"""Shards: what is written comes back, everybody gets a share of their own, nothing is half done."""

import contextlib
import functools
import http.server
import io
import itertools
import json
import logging
import shutil
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

pytest.importorskip("webdataset")

from written_shards import ShardsWriter

from facerecon_lib.data.shards import files as shard_files
from facerecon_lib.data.shards import reader as photo_shards
from facerecon_lib.data.shards.files import ShardsError, find_shards, read_samples, write_index
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.shards.samples import encode_photo, read_photo, tar_bytes, write_shard
from facerecon_lib.data.splits import part_of
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.files import downloads
from facerecon_lib.photos.crop import Crop, align

KEYS = [f"photo_{i:02d}" for i in range(24)]


def person(key: str) -> str:
    return f"person {int(key[-2:]) // 2}"


@functools.cache
def crop_of(number: int) -> Crop:
    """A crop like no other, of a photo with a smooth picture; some hang over the photo's edge."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    photo = np.asarray(small.resize((300, 300), Image.Resampling.BICUBIC))
    corner = [(-60, 30), (40, 40), (100, 140)][number % 3]
    return align(photo, corner + rng.uniform(0, 200, (68, 2)))


def write(folder: Path, keys: list[str] = KEYS, per_shard: int = 8, prefix: str = "photos") -> Path:
    with ShardsWriter(folder, prefix, per_shard) as writer:
        for key in keys:
            crop = crop_of(int(key[-2:]))
            writer.write(key, crop, "2d", person=person(key), photo=f"{key}.png")
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of eight photos, of twelve people."""
    return write(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def keys(batches: Iterator[FaceBatch]) -> list[str]:
    return [name.rpartition("/")[2] for batch in batches for name in batch.names]


def rewrite(shard: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a shard again, each file's bytes changed; None leaves the file out."""
    files = []
    with tarfile.open(shard) as tar:
        for member in tar:
            files.append((member, change(member.name, tar.extractfile(member).read())))
    with tarfile.open(shard, "w") as tar:
        for member, data in files:
            if data is not None:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


# What is written comes back ---------------------------------------------------------------------


def test_a_photo_comes_back_as_it_was_written(shards: Path):
    batches = list(PhotoShards(shards, 5, complete=True))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    assert keys(batches) == KEYS
    cut = 0
    for batch in batches:
        for i, name in enumerate(batch.names):
            crop = crop_of(int(name[-2:]))
            assert torch.equal(batch.landmarks[i], crop.landmarks[0])
            assert torch.equal(batch.valid[i], crop.valid[0])
            assert (batch.image[i] - crop.image[0]).abs().mean() < 1.5 / 255
            assert (batch.image[i] - crop.image[0]).abs().max() < 24 / 255
            assert batch.person[i] == person(name)
            cut += int(crop.valid.min() == 0)
        assert batch.kind == "2d"
        assert batch.image.dtype == torch.float32
    assert 0 < cut < len(KEYS)  # both kinds were tried
    assert batches[0].names[0] == "photos-00000.tar/photo_00"


def test_the_sample_tells_where_the_crop_came_from(shards: Path):
    sample = next(read_samples(str(shards / "photos-00001.tar"), print))
    facts = json.loads(sample["json"])
    assert np.array_equal(np.float32(facts["matrix"]), crop_of(8).matrix.numpy())
    assert facts["photo"] == "photo_08.png"
    assert facts["crc32"] == zlib.crc32(sample["jpg"])
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(sample["jpg"]))) == 0  # full colour


def test_webdataset_itself_reads_the_shards(shards: Path):
    import webdataset

    dataset = webdataset.WebDataset(str(shards / "photos-00000.tar"), shardshuffle=False)
    samples = list(dataset.decode("torchrgb8"))
    assert [sample["__key__"] for sample in samples] == KEYS[:8]
    assert samples[0]["jpg"].shape == (3, 224, 224)
    assert samples[0]["json"]["kind"] == "2d"


def test_a_crop_that_cannot_come_back_is_not_written():
    crop = crop_of(0)
    holed = crop.valid.clone()
    holed[..., 100, 100] = 0
    for broken, message in (
        (Crop(crop.image[..., :112], crop.valid, crop.landmarks, crop.matrix), "224, 112"),
        (Crop(crop.image, holed, crop.landmarks, crop.matrix), "expected a rectangle"),
        (Crop(crop.image, crop.valid * 0, crop.landmarks, crop.matrix), "expected a rectangle"),
        (Crop(crop.image, crop.valid, crop.landmarks * torch.nan, crop.matrix), "68 finite points"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_photo("a", broken, "2d", "somebody", "a.jpg")
    with pytest.raises(ValueError, match="neither 2d nor 3d"):
        encode_photo("a", crop, "4d", "somebody", "a.jpg")
    with pytest.raises(ValueError, match="person has no name"):
        encode_photo("a", crop, "2d", "", "a.jpg")


# The writer -------------------------------------------------------------------------------------


def test_a_shard_appears_when_it_is_whole(tmp_path: Path):
    sample = tar_bytes(encode_photo("a", crop_of(0), "2d", "somebody", "a.jpg"))

    def killed():
        yield sample
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.tar", killed())
    assert list(tmp_path.iterdir()) == []
    write_shard(tmp_path / "a.tar", [sample])
    assert keys(PhotoShards(tmp_path, 1, complete=True)) == ["a"]


def test_keys_that_webdataset_would_misread_are_refused():
    for key in ("A.J._Cook", "a/b", "__a__", "", "ü", "a" * 81):
        with pytest.raises(ValueError, match="letters, digits"):
            encode_photo(key, crop_of(0), "2d", "somebody", "a.jpg")


def test_an_index_that_is_out_of_date_misleads_nobody(copy: Path):
    write(copy, ["late_90", "late_91"], prefix="late")
    (copy / "photos-00001.tar").unlink()
    (copy / "index.json").write_text((copy / "index.json").read_text().replace("photo_0", "x_0"))
    rewrite(copy / "photos-00000.tar", lambda name, data: data if "_00" not in name else None)
    photos = PhotoShards(copy, 4, complete=True)
    assert photos.photos == 7 + 8 + 2
    write_index(copy)
    entries = {s["name"]: s for s in json.loads((copy / "index.json").read_text())["shards"]}
    assert len(entries["photos-00000.tar"]["photos"]) == 7
    assert entries["late-00000.tar"]["photos"][0] == ["late_90", "person 45"]


# Parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["random", "person"])
def test_the_parts_are_disjoint_and_together_everything(shards: Path, split: str):
    found = {}
    for part in ("train", "validation", "test"):
        photos = PhotoShards(shards, 4, part=part, split=split, complete=True)
        found[part] = keys(photos)
        assert photos.photos == len(found[part]) > 0
        for key in found[part]:
            assert part_of(key, person(key), split) == part
    assert sorted(itertools.chain(*found.values())) == KEYS


def test_a_part_is_the_same_in_smaller_shards_and_without_an_index(shards: Path, tmp_path: Path):
    write(tmp_path, per_shard=5)
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
        return PhotoShards(
            shards, 2, part="train", split="person", seed=7, shuffle=5, workers=workers
        )

    whole, states = [], []
    photos = opened()
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
    photos = PhotoShards(shards, 4)
    state = photos.state_dict() | {"taken": 5}
    decoded, decode = [], photo_shards.decode_photo
    monkeypatch.setattr(
        photo_shards, "decode_photo", lambda photo: (decoded.append(photo.key), decode(photo))[1]
    )
    photos.load_state_dict(state)
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
    fewer = PhotoShards([shards / "photos-00000.tar"], 4, seed=1)
    with pytest.raises(ShardsError, match="taken with batches = 6"):
        fewer.load_state_dict(state)
    PhotoShards(shards, 4, seed=1, rank=0).load_state_dict(state)


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


LEFT = [key for key in KEYS if key not in ("photo_09", "photo_10", "photo_11", "photo_12")]


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_photos_are_left_out_and_counted(
    copy: Path, workers: int, caplog: pytest.LogCaptureFixture
):
    rewrite(copy / "photos-00001.tar", damage)
    photos = PhotoShards(copy, 5, workers=workers, complete=True)
    with caplog.at_level(logging.WARNING):
        assert sorted(keys(photos)) == LEFT
    assert photos.damaged["photos-00001.tar/photo_09"] == "its jpg is damaged"
    assert photos.damaged["photos-00001.tar/photo_10"] == "its json is missing"
    assert photos.damaged["photos-00001.tar/photo_11"].startswith("its json is damaged")
    assert photos.damaged["photos-00001.tar/photo_12"] == "its landmarks are not 68 finite points"
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
    def cut(name: str, data: bytes) -> bytes:
        """Half a picture, from a writer that keeps no checksum."""
        if name == "photo_09.jpg":
            return data[: len(data) // 2]
        if name == "photo_09.json":
            facts = json.loads(data)
            del facts["crc32"]
            return json.dumps(facts).encode()
        return data

    whole = [batch.names for batch in PhotoShards(copy, 4)]
    rewrite(copy / "photos-00001.tar", cut)
    photos = PhotoShards(copy, 4)
    for names, batch in zip(whole, photos, strict=True):
        left = [name for name in names if not name.endswith("photo_09")]
        assert batch.names == (left + left[:1] if len(left) < 4 else names)
    assert photos.damaged == {"photos-00001.tar/photo_09": "its jpg is damaged"}
    assert len(keys(PhotoShards(copy, 4, complete=True))) == 23


def test_a_picture_of_another_size_is_left_out(copy: Path):
    jpeg = io.BytesIO()
    Image.new("RGB", (96, 80)).save(jpeg, "JPEG")

    def shrink(name: str, data: bytes) -> bytes:
        if name == "photo_09.jpg":
            return jpeg.getvalue()
        if name == "photo_09.json":
            return json.dumps(json.loads(data) | {"crc32": zlib.crc32(jpeg.getvalue())}).encode()
        return data

    rewrite(copy / "photos-00001.tar", shrink)
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


# Addresses --------------------------------------------------------------------------------------


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word, and cuts off the first `cut` answers with a shard."""

    cut = 0

    def log_message(self, *args: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        data = source.read()
        if self.path.endswith(".tar") and Server.cut > 0:
            Server.cut -= 1
            data = data[: len(data) // 2]
        with contextlib.suppress(ConnectionError):
            outputfile.write(data)


@pytest.fixture
def address(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An http address of the shards, on this machine."""
    monkeypatch.setattr(downloads, "PAUSES_S", (0, 0))
    monkeypatch.setattr(Server, "cut", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = functools.partial(Server, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_read_over_http_as_from_the_disk(shards: Path, address: str, workers: int):
    settings = dict(part="train", shuffle=6, workers=workers)
    local = [batch.names for batch in PhotoShards(shards, 4, **settings)]
    for source in (address, address + "photos-{00000..00002}.tar"):
        assert [batch.names for batch in PhotoShards(source, 4, **settings)] == local


def test_an_answer_that_breaks_off_is_asked_for_again(address: str, monkeypatch):
    monkeypatch.setattr(Server, "cut", 2)
    assert keys(PhotoShards(address, 4, complete=True)) == KEYS
    monkeypatch.setattr(Server, "cut", 3)
    with pytest.raises(ShardsError, match=r"photos-00000.tar: cannot be fetched \(\d+ of \d+ b"):
        list(PhotoShards(address, 4))


def test_a_command_may_deliver_the_shards(shards: Path):
    pattern = f"pipe:cat {shards}/photos-{{00000..00002}}.tar"
    photos = PhotoShards(pattern, 4, photos_per_epoch=22, shuffle=0)
    assert len(photos) == 5
    assert keys(photos) == KEYS[:20]
    assert keys(PhotoShards(pattern, 4, complete=True)) == KEYS


# Errors: one line, with the name and what to do ---------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{folder}/nowhere", r"nowhere: there is no such folder"),
        ("{folder}/nowhere.tar", r"nowhere.tar: there is no such shard \(1 of 1 are missing\)"),
        ("{folder}/photos-{{00000..00004}}.tar", r"photos-00003.tar: .* \(2 of 5 are missing\)"),
        ("{folder}/x-*.tar", r"x-\*.tar: no shard matches"),
        ("{folder}/photos-{{00000..", r"is not a pattern of shards"),
        ("{folder}/empty", r"empty: holds no shard \(\*.tar\); prepare the photos first"),
        ("{folder}/text.tar", r"text.tar: is not a tar file"),
        ("pipe:exit 3", r"^pipe:exit 3: cannot be read \(the command ends with exit 3\)$"),
        ("pipe:echo hello", r"pipe:echo hello: is not a tar file"),
        ("gopher://a/b.tar", r"gopher://a/b.tar: cannot be read"),
        ("http://127.0.0.1:9/a.tar", r"127.0.0.1:9/.*: cannot be fetched \(.*refused"),
        ("{address}none-0.tar", r"none-0.tar: the server answers 404"),
        ("{address}none/", r"none/: no index.json with shards is there; give a brace pattern"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(copy: Path, address: str, source: str, message: str):
    (copy / "empty").mkdir()
    (copy / "text.tar").write_text("no shard" * 100)
    with pytest.raises(ShardsError, match=message) as raised:
        list(PhotoShards(source.format(folder=copy, address=address), 4, photos_per_epoch=8))
    assert "\n" not in str(raised.value)


def test_an_error_in_a_worker_is_one_line_too(shards: Path):
    photos = PhotoShards(
        ["pipe:exit 3", f"pipe:cat {shards}/photos-00000.tar"], 4, photos_per_epoch=8, workers=2
    )
    with pytest.raises(ShardsError, match="exit 3") as raised:
        list(photos)
    assert "\n" not in str(raised.value)


def test_what_is_too_little_is_said_before_the_first_batch(shards: Path, tmp_path: Path):
    one = write(tmp_path, KEYS[:1])
    part = part_of(KEYS[0])
    other = "test" if part == "train" else "train"
    with pytest.raises(ShardsError, match=rf"no photo of the part '{other}' \(split='random'\)"):
        PhotoShards(one, 1, part=other)
    with pytest.raises(ShardsError, match="3 shards for 4 processes"):
        PhotoShards(shards, 1, world=4)
    with pytest.raises(ShardsError, match="24 photos are fewer than one batch of 13 for each of 2"):
        PhotoShards(shards, 13, world=2)
    with pytest.raises(ShardsError, match="give photos_per_epoch"):
        PhotoShards(f"pipe:cat {shards}/photos-00000.tar", 4)
    with pytest.raises(ShardsError, match="no usable photo of the part"):
        list(PhotoShards(f"pipe:cat {one}/photos-00000.tar", 1, part=other, photos_per_epoch=1))
    with pytest.raises(ShardsError, match="named 2 times"):
        find_shards([shards / "photos-00000.tar"] * 2)
    with pytest.raises(ShardsError, match="names no shard"):
        find_shards([])


def test_arguments_out_of_range_are_named(shards: Path):
    for arguments, message in (
        (dict(batch_size=0), "batch_size: expected at least 1, got 0"),
        (dict(rank=2, world=2), "world: expected at least 3, got 2"),
        (dict(part="training"), "part: expected one of train, validation, test"),
        (dict(split="people"), "split: expected 'random' or 'person'"),
    ):
        with pytest.raises(ValueError, match=message):
            PhotoShards(shards, **({"batch_size": 4} | arguments))


def test_an_index_that_is_none_is_refused(copy: Path):
    (copy / "index.json").write_text('{"format": "something else"}')
    with pytest.raises(ShardsError, match=r"index.json: is no index of .*something else"):
        PhotoShards(copy, 4)
    write_index(copy)
    assert PhotoShards(copy, 4).photos == 24
    stranger = {"name": "../a.tar", "bytes": 1, "photos": []}
    index = {"format": shard_files.INDEX_FORMAT, "shards": [stranger]}
    (copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardsError, match="no shard's name"):
        PhotoShards(copy, 4)


def test_a_checked_sample_is_what_was_encoded():
    stored = read_photo(encode_photo("a", crop_of(3), "3d", "somebody", "a.jpg"))
    assert (stored.key, stored.kind, stored.person) == ("a", "3d", "somebody")
