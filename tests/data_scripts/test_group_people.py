"""Photos of one face get one name, and nothing else of their shards changes."""

import json
import tarfile

import pytest
import torch

pytest.importorskip("webdataset")
from group_people import look, main, person_names
from written_shards import ShardsWriter

from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.data.shards.files import find_shards
from facerecon_lib.photos.crop import Crop


@pytest.fixture(scope="module")
def shards(model, tmp_path_factory):
    """Two shards of six photos: faces 0 to 2, each again in a little less light, by other names."""
    folder = tmp_path_factory.mktemp("shards")
    batch = RenderedFaces(model, 4, clean=True).batch(torch.arange(3))
    with ShardsWriter(folder, photos_per_shard=4) as writer:
        for i, key in enumerate(("c", "a", "e", "b", "d", "f")):
            face = slice(i % 3, i % 3 + 1)
            image = batch.image[face].clamp(0, 1) * (1 - 0.05 * (i // 3))
            crop = Crop(image, torch.ones(1, 1, 224, 224), batch.landmarks[face], torch.eye(3)[:2])
            writer.write(key, crop, "2d", person=key, photo=f"{key}.png")
    return folder


def files(folder):
    return {
        member.name: tar.extractfile(member).read()
        for path in sorted(folder.glob("*.tar"))
        for tar in [tarfile.open(path)]
        for member in tar
    }


def test_two_photos_of_a_face_become_one_person(shards, tmp_path, capsys):
    features = look(shards, "cpu")[2]
    apart = torch.cdist(features, features)
    assert apart[range(3), range(3, 6)].max() < 0.2  # the same faces
    threshold = (apart[:3, :3] + 9 * torch.eye(3)).min().item() * 0.9
    main(shards, tmp_path / "out", threshold=threshold)
    assert "6 photos of 3 people, at most 2 of one" in capsys.readouterr().out
    people = {key: person for s in find_shards(tmp_path / "out") for key, person in s.photos}
    assert people == {"c": "b", "b": "b", "a": "a", "d": "a", "e": "e", "f": "e"}
    before, after = files(shards), files(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, data in before.items():
        if name.endswith(".json"):
            person = people[name.partition(".")[0]]
            assert json.loads(after[name]) == json.loads(data) | {"person": person}
        else:
            assert after[name] == data


def test_a_folder_that_is_there_is_left_alone(shards, tmp_path):
    with pytest.raises(SystemExit, match="is there already; choose a new folder"):
        main(shards, tmp_path)
    with pytest.raises(SystemExit, match="nowhere: there is no such folder"):
        main(tmp_path / "nowhere", tmp_path / "out")


def test_near_photos_join_through_others_and_people_stay_together(monkeypatch):
    monkeypatch.setattr("group_people.BLOCK", 2)
    features = torch.tensor([[0.0], [5.0], [0.4], [0.8], [9.0], [7.0]])
    keys = ["f", "e", "d", "c", "b", "a"]
    named = ["x", "y", "z", "w", "y", "v"]  # two photos of y that are not alike
    assert person_names(keys, named, features, 0.5) == ["c", "b", "c", "c", "b", "a"]
    assert person_names(keys, named, features, 0.3) == ["f", "b", "d", "c", "b", "a"]
