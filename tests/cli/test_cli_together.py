"""`facerecon fit --together`: one person's photos to one head, and who is left out."""

import json

import numpy as np
import pytest
import trimesh
from command_line import SAMPLE, assert_landmarks_reproject, facerecon, refused, result_of, works
from PIL import Image, ImageEnhance, ImageOps


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The bundled photo, and two more photos that one could take for hers."""
    folder, photo = tmp_path_factory.mktemp("photos"), Image.open(SAMPLE).convert("RGB")
    ImageOps.mirror(photo).save(folder / "mirrored.png")
    ImageEnhance.Brightness(photo.crop((60, 0, 400, 380))).enhance(0.8).save(folder / "dim.jpg")
    return [SAMPLE, folder / "mirrored.png", folder / "dim.jpg"]


@pytest.fixture(scope="module")
def person(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, works("fit", *photos, "--together", "--out", out)


def test_every_photo_has_the_same_person_and_an_expression_of_its_own(person):
    out, done = person
    assert sorted(path.name for path in out.iterdir()) == ["astronaut", "dim", "mirrored", "person"]
    results = [result_of(out / name) for name in ("astronaut", "dim", "mirrored")]
    for group in ("id", "alb"):
        assert results[0]["coefficients"][group] == results[1]["coefficients"][group]
        assert results[0]["coefficients"][group] == results[2]["coefficients"][group]
    assert results[0]["coefficients"]["exp"] != results[2]["coefficients"]["exp"]
    for result in results:
        assert_landmarks_reproject(result)
        assert result["method"] == "together"
        assert result["converged"] is True
    assert f"the person of 3 photos -> {out / 'person'}" in done.stdout


def test_the_person_is_a_neutral_head_of_those_numbers(person):
    result, one = result_of(person[0] / "person"), result_of(person[0] / "astronaut")
    assert result["coefficients"] == {name: one["coefficients"][name] for name in ("id", "alb")}
    assert [photo["photo"] for photo in result["photos"]] == [
        "astronaut.jpg", "mirrored.png", "dim.jpg",
    ]  # fmt: skip
    heads = [
        trimesh.load(person[0] / "person" / f"mesh.{kind}", force="mesh", process=False)
        for kind in ("ply", "glb")
    ]
    np.testing.assert_allclose(heads[0].vertices, heads[1].vertices, atol=1e-4)
    smiling = trimesh.load(person[0] / "astronaut" / "mesh.ply", force="mesh", process=False)
    assert 1 < np.abs(smiling.vertices - heads[0].vertices).max() < 30  # mm


def test_a_result_is_replaced_by_one_of_the_same_photos_alone(person, photos):
    out, _ = person
    works("fit", *photos[:2], "--together", "--out", out, "--no-figure")
    assert sorted(path.name for path in out.iterdir() if "person" in path.name) == [
        "person", "person-2",
    ]  # fmt: skip
    works("fit", *photos[1::-1], "--together", "--out", out, "--no-figure")
    assert len(list(out.glob("person*"))) == 2
    assert not (out / "person-2" / "figure.png").exists()


def test_what_cannot_be_used_is_told_and_the_others_are_done(tmp_path, photos):
    blank, broken = tmp_path / "blank.png", tmp_path / "broken.jpg"
    Image.new("RGB", (160, 120), "grey").save(blank)
    broken.write_bytes(SAMPLE.read_bytes()[:900])
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(SAMPLE.read_bytes())
    out = tmp_path / "out"
    command = ["fit", *photos[:2], blank, broken, copy, "--together", "--no-figure", "--json"]
    done = facerecon(*command, "--out", out)
    assert done.exit_code == 2
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    errors = {line["photo"].rpartition("/")[2]: line["error"] for line in lines if "error" in line}
    assert set(errors) == {"blank.png", "broken.jpg", "copy.jpg"}
    assert "is the same file as astronaut.jpg; left out" in errors["copy.jpg"]
    assert lines[-1] == {"person": str(out / "person"), "photos": ["astronaut.jpg", "mirrored.png"]}
    assert done.stderr.count("\n") == 3


def test_one_photo_is_no_person(tmp_path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (160, 120), "grey").save(blank)
    done = facerecon("fit", SAMPLE, blank, "--together", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "astronaut.jpg: is the only photo left; --together needs two" in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_options_that_contradict_are_refused(tmp_path):
    command = "fit", SAMPLE, "--out", tmp_path
    refused(facerecon(*command, "--together"), "two photos or more")
    refused(facerecon(*command, "--keep-strangers"), "add --together")
    refused(facerecon(*command, SAMPLE, "--together", "--method", "adam"), "--method dense")
