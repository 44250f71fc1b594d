"""Samples: a photo comes back as it was written, and a shard appears whole or not at all."""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

pytest.importorskip("webdataset")

from written_shards import KEYS, crop_of, keys, person

from facerecon_lib.data.shards.files import read_samples
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.shards.samples import encode_photo, read_photo, tar_bytes, write_shard
from facerecon_lib.photos.crop import Crop


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


def test_a_checked_sample_is_what_was_encoded():
    stored = read_photo(encode_photo("a", crop_of(3), "3d", "somebody", "a.jpg"))
    assert (stored.key, stored.kind, stored.person) == ("a", "3d", "somebody")


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
        (dict(image=crop.image[..., :112]), "224, 112"),
        (dict(valid=holed), "expected a rectangle"),
        (dict(valid=crop.valid * 0), "expected a rectangle"),
        (dict(landmarks=crop.landmarks * torch.nan), "68 finite points"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_photo("a", Crop(**vars(crop) | broken), "2d", "somebody", "a.jpg")
    for kind, name, message in (("4d", "A", "neither 2d nor 3d"), ("2d", "", "person has no name")):
        with pytest.raises(ValueError, match=message):
            encode_photo("a", crop, kind, name, "a.jpg")
    for key in ("A.J._Cook", "a/b", "__a__", "", "ü", "a" * 81):
        with pytest.raises(ValueError, match="letters, digits"):
            encode_photo(key, crop, "2d", "somebody", "a.jpg")


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
