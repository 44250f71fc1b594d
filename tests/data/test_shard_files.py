"""Shards' files: found by folder, pattern and address, indexed, and refused in one line."""

import json
from pathlib import Path

import pytest

pytest.importorskip("webdataset")

from written_shards import KEYS, keys, rewrite, write_folder

from facerecon_lib.data.shards.files import INDEX_FORMAT, ShardsError, find_shards, write_index
from facerecon_lib.data.shards.reader import PhotoShards


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_read_over_http_as_from_the_disk(shards: Path, address: str, workers: int):
    settings = dict(part="train", shuffle=6, workers=workers)
    local = [batch.names for batch in PhotoShards(shards, 4, **settings)]
    for source in (address, address + "photos-{00000..00002}.tar"):
        assert [batch.names for batch in PhotoShards(source, 4, **settings)] == local


def test_an_answer_that_breaks_off_is_asked_for_again(address: str, server, monkeypatch):
    monkeypatch.setattr(server, "cut", 2)
    assert keys(PhotoShards(address, 4, complete=True)) == KEYS
    monkeypatch.setattr(server, "cut", 3)
    with pytest.raises(ShardsError, match=r"photos-00000.tar: cannot be fetched \(\d+ of \d+ b"):
        list(PhotoShards(address, 4))


def test_a_command_may_deliver_the_shards(shards: Path):
    pattern = f"pipe:cat {shards}/photos-{{00000..00002}}.tar"
    photos = PhotoShards(pattern, 4, photos_per_epoch=22, shuffle=0)
    assert len(photos) == 5
    assert keys(photos) == KEYS[:20]
    assert keys(PhotoShards(pattern, 4, complete=True)) == KEYS


def test_an_index_that_is_out_of_date_misleads_nobody(copy: Path):
    write_folder(copy, ["late_90", "late_91"], prefix="late")
    (copy / "photos-00001.tar").unlink()
    (copy / "index.json").write_text((copy / "index.json").read_text().replace("photo_0", "x_0"))
    rewrite(copy / "photos-00000.tar", lambda name, data: data if "_00" not in name else None)
    photos = PhotoShards(copy, 4, complete=True)
    assert photos.photos == 7 + 8 + 2
    write_index(copy)
    entries = {s["name"]: s for s in json.loads((copy / "index.json").read_text())["shards"]}
    assert len(entries["photos-00000.tar"]["photos"]) == 7
    assert entries["late-00000.tar"]["photos"][0] == ["late_90", "person 45"]


def test_an_index_that_is_none_is_refused(copy: Path):
    (copy / "index.json").write_text('{"format": "something else"}')
    with pytest.raises(ShardsError, match=r"index.json: is no index of .*something else"):
        PhotoShards(copy, 4)
    write_index(copy)
    assert PhotoShards(copy, 4).photos == 24
    stranger = {"name": "../a.tar", "bytes": 1, "photos": []}
    index = {"format": INDEX_FORMAT, "shards": [stranger]}
    (copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardsError, match="no shard's name"):
        PhotoShards(copy, 4)


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


def test_shards_are_named_once_and_at_all(shards: Path):
    with pytest.raises(ShardsError, match="named 2 times"):
        find_shards([shards / "photos-00000.tar"] * 2)
    with pytest.raises(ShardsError, match="names no shard"):
        find_shards([])
