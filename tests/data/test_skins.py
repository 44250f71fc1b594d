"""Files of learned skin: the row of each photo's key, and one line for what cannot be used."""

import json

import pytest
import torch

from facerecon_lib.data.shards.files import ShardsError
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.shards.skins import FORMAT, SkinsError, read_skins
from facerecon_lib.face.morphable_model import default_model_path
from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.weights import write_weights

ALBEDO = torch.randn(3, 25, generator=torch.Generator().manual_seed(0)).half()


@pytest.fixture
def written(tmp_path):
    """Writes a file of three photos' skins, some of its facts changed."""

    def write(**change):
        facts = dict(keys=json.dumps(["photo_01", "photo_05", "photo_07"]), format=FORMAT)
        facts["model_sha256"] = sha256_of(default_model_path())
        write_weights(tmp_path / "skins.safetensors", {"albedo": ALBEDO}, facts | change)
        return tmp_path / "skins.safetensors"

    return write


def test_a_photo_has_the_skin_of_its_key_and_others_none(written):
    skins = read_skins(written(), default_model_path())
    skin = skins.of(["photos-00001.tar/photo_05", "photo_06", "photo_01"])
    assert torch.equal(skin[[0, 2]], ALBEDO[[1, 0]].float())
    assert skin[1].isnan().all()


def test_batches_of_photos_have_it(written, shards):
    skins = read_skins(written(), default_model_path())
    for batch in PhotoShards(shards, 4, skins=skins):
        known = [name[-2:] in ("01", "05", "07") for name in batch.names]
        assert (~batch.skin.isnan().any(1)).tolist() == known


def test_skins_of_other_photos_are_refused(written, shards):
    skins = read_skins(written(keys=json.dumps(["a", "b", "c"])), default_model_path())
    with pytest.raises(ShardsError, match="the skin of none of its photos is known; give"):
        PhotoShards(shards, 4, skins=skins)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(model_sha256="0" * 64), "is of another face model than .*; name it with --model"),
        (dict(keys=json.dumps(["photo_01"])), "its keys and rows do not agree; make it again"),
        (dict(keys="["), "its keys and rows do not agree"),
        (dict(format="facerecon-unet-1"), "no file of skins of this project"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(written, change, message):
    with pytest.raises(SkinsError, match=message) as refused:
        read_skins(written(**change), default_model_path())
    assert "\n" not in str(refused.value)
