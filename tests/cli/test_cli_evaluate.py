"""`facerecon evaluate`: tables, numbers, figures, refusals."""

import errno
import json
from dataclasses import replace

import pytest
from command_line import SAMPLE, facerecon, refused, works

from facerecon_lib.data.splits import part_of
from facerecon_lib.networks.encoder import Encoder, save_encoder
from facerecon_lib.networks.unet import DoubleHeadUNet, save_unet
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo


def test_evaluate_prints_tables_and_writes_every_number_and_a_figure(tmp_path, checkpoint):
    numbers, figure = tmp_path / "found.json", tmp_path / "found.png"
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(SAMPLE.read_bytes())
    (photos / "torn.jpg").write_bytes(SAMPLE.read_bytes()[:4000])
    (photos / "notes.txt").write_text("no photo, and not meant to be one")
    options = ["--rendered", "3", "--scans", "1", "--photos", str(photos), "--recognition", "none"]
    options += ["--json", numbers, "--figure", figure]
    done = works("evaluate", checkpoint, *options)
    for words in ("3 rendered faces, seed 1000, family held-out", "1 photos", "torn.jpg: left out"):
        assert words in done.stdout
    found = json.loads(numbers.read_text())
    assert list(found) == ["rendered_photos", "rendered", "photos"]
    lost = found["rendered_photos"]["failures"]
    assert sorted([*found["rendered_photos"]["faces"], *lost]) == found["rendered"]["faces"]
    assert found["rendered"]["faces"] == [f"seed 1000 face {i}" for i in range(3)]
    assert found["rendered"]["recipe"]["backbone"] == "mobilenet_v3_large"
    assert found["photos"]["faces"] == ["me.jpg"]
    assert list(found["photos"]["failures"]) == ["torn.jpg"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        "found-photos.png", "found-rendered.png",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*"))


def test_evaluate_looks_at_every_photo_of_a_folder_and_says_what_it_passes_over(
    tmp_path, checkpoint
):
    for name in ("me.jpg", "me.jfif", "you/me.jpg", "you/old/ME.GIF"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(SAMPLE.read_bytes())
    for name in ("notes.txt", "you/clip.mov", ".hidden.jpg"):
        (tmp_path / "photos" / name).write_bytes(SAMPLE.read_bytes())
    numbers = tmp_path / "found.json"
    options = ["--photos", tmp_path / "photos", "--recognition", "none", "--json", numbers]
    done = works("evaluate", checkpoint, *options)
    assert "3 other files are passed over" in done.stdout
    names = json.loads(numbers.read_text())["photos"]["faces"]
    folder = f"{tmp_path}/photos"
    assert sorted(names) == sorted(
        ["me.jfif", "ME.GIF", f"{folder}/me.jpg", f"{folder}/you/me.jpg"]
    )


def test_evaluate_puts_the_augmented_branch_beside_the_encoder(tmp_path, checkpoint):
    unet, numbers, figure = (tmp_path / name for name in ("u.safetensors", "n.json", "f.png"))
    save_unet(unet, DoubleHeadUNet(8, 3), {"light": "grey", "albedo": "light"})
    options = ["--rendered", "2", "--scans", "0", "--recognition", "none", "--wrinkles"]
    options += ["--augmented", "--unet", unet, "--json", numbers, "--figure", figure]
    done = works("evaluate", checkpoint, *options)
    assert "what the augmented branch adds" in done.stdout
    found = json.loads(numbers.read_text())["rendered"]
    assert (found["detail"], found["light"]) == ("u.safetensors", "grey")
    ours, base = (found["values"][m]["albedo_rgb"] for m in ("augmented", "encoder"))
    assert ours == pytest.approx(base)  # untrained, it adds nothing
    assert figure.is_file()
    works("evaluate", checkpoint, *options, "--illumination", "known")
    assert json.loads(numbers.read_text())["rendered"]["light"] == "known"
    done = facerecon("evaluate", checkpoint, *options, "--illumination", "photo")
    refused(done, "take free, grey or known")
    plain = [o for o in options if o not in ("--augmented", "--unet", unet, "--wrinkles")]
    works("evaluate", checkpoint, *plain)
    other = json.loads(numbers.read_text())["rendered"]
    assert (other["detail"], other["light"]) == (None, "encoder")
    assert other["values"]["mean face"]["normal_deg"] != found["values"]["mean face"]["normal_deg"]


def test_evaluate_says_when_the_judge_of_identity_was_the_teacher(tmp_path, model):
    for teacher, flatters in (("dlib", True), ("facenet", False)):
        path = tmp_path / f"{teacher}.safetensors"
        settings = json.dumps({"recognition": teacher})
        save_encoder(path, Encoder(model.sizes, "mobilenet_v3_large"), {"settings": settings})
        options = ["--rendered", "1", "--scans", "0", "--recognition", "dlib"]
        done = works("evaluate", path, *options)
        assert ("expect it to flatter" in done.stdout) == flatters


def test_evaluate_takes_the_test_part_of_shards_and_no_other(tmp_path, checkpoint):
    pytest.importorskip("webdataset")
    from written_shards import ShardsWriter

    crop = align(sample_photo().pixels, sample_detection().landmarks)
    keys = [f"{i:02d}" for i in range(20)]
    with ShardsWriter(tmp_path / "shards") as writer:
        for key in keys:
            writer.write(key, crop, "2d", person=f"person {key}", photo=f"{key}.jpg")
    numbers = tmp_path / "found.json"
    options = ["--data", str(tmp_path / "shards"), "--recognition", "none", "--json", numbers]
    for split in ("random", "person"):
        works("evaluate", checkpoint, *options, "--split", split)
        found = json.loads(numbers.read_text())["data"]
        test = {key for key in keys if part_of(key, f"person {key}", split) == "test"}
        assert {name.rpartition("/")[2] for name in found["faces"]} == test
        assert 0 < len(test) < 10
        assert found["summary"]["encoder"]["landmark"]["all"]["count"] == len(test)


def test_evaluate_takes_a_part_of_shards_as_photos_and_people_s_ratings(tmp_path, checkpoint):
    pytest.importorskip("webdataset")
    from written_shards import ShardsWriter

    crop = align(sample_photo().pixels, sample_detection().landmarks)
    keys = [f"{i:02d}" for i in range(20)]
    with ShardsWriter(tmp_path / "shards") as writer:
        for key in keys:
            writer.write(key, crop, "2d", person=f"person {key}", photo=f"{key}.jpg")
    test = sorted(key for key in keys if part_of(key, f"person {key}", "person") == "test")
    numbers, ratings = tmp_path / "found.json", tmp_path / "ratings.csv"
    ratings.write_text("photo,tone\n" + "".join(f"{key},3\n" for key in keys))
    options = ["--photos", tmp_path / "shards", "--part", "test", "--split", "person", "--fit"]
    options += ["--ratings", ratings, "--recognition", "none", "--json", numbers]
    done = works("evaluate", checkpoint, *options, "--data", tmp_path / "shards")
    assert f"{len(test)} photos" in done.stdout
    assert f"ratings.csv: {len(keys) - len(test)} ratings are of other photos" in done.stdout
    content = json.loads(numbers.read_text())
    found, crops = content["photos"], content["data"]
    assert sorted(found["faces"]) == test
    assert (len(crops["faces"]), crops["light"], crops["skin"]) == (len(test), "encoder", {})
    assert found["ratings"] == dict.fromkeys(found["faces"], 3.0)
    assert found["light"] == "photo"
    fitted, ours = (found["values"][method]["dense"][0] for method in ("fit", "encoder"))
    assert fitted < 0.3 * ours
    plain = [o for o in options if o not in ("--ratings", ratings, "--fit")]
    works("evaluate", checkpoint, *plain, "--illumination", "encoder")
    other = json.loads(numbers.read_text())["photos"]
    assert (other["light"], other["ratings"]) == ("encoder", {})
    assert "fit" not in other["values"]


def test_a_fit_needs_a_model_that_is_bound_to_the_points(checkpoint, model, monkeypatch):
    unbound = replace(model, dense=None)
    load = "facerecon_lib.face.morphable_model.MorphableModel.load"
    monkeypatch.setattr(load, lambda *arguments, **options: unbound)
    options = ["--photos", SAMPLE, "--recognition", "none"]
    refused(facerecon("evaluate", checkpoint, *options, "--fit"), "bind_face_mesh.py")
    assert "dense points" not in works("evaluate", checkpoint, *options).stdout


def test_bad_ratings_are_refused_line_by_line_before_the_work(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("facerecon_lib.cli.evaluate._evaluations", None)
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("photo,tone\na.jpg,12\nb.jpg,4\nc.jpg,\n")
    done = facerecon("evaluate", checkpoint, "--photos", SAMPLE, "--ratings", ratings)
    assert done.exit_code == 2
    first, second = done.stderr.splitlines()
    assert first.endswith("ratings.csv: line 2: tone '12': expected Monk's, 1 (lightest) to 10")
    assert "line 4: tone ''" in second
    ratings.write_text("name,tone\n")
    done = facerecon("evaluate", checkpoint, "--photos", SAMPLE, "--ratings", ratings)
    refused(done, "expected photo,tone")


def test_evaluate_says_when_the_faces_are_those_of_training_or_a_network_is_missing(
    checkpoint, monkeypatch
):
    monkeypatch.setattr("facerecon_lib.networks.face_networks.DLIB_FILE", "gone")
    options = ["--rendered", "1", "--scans", "0", "--seed", "7", "--family", "train"]
    refused(facerecon("evaluate", checkpoint, *options), "gone: there is no such file")
    done = works("evaluate", checkpoint, *options, "--recognition", "none")
    assert "these are the rendered faces of its training" in done.stdout


def test_a_figure_that_cannot_be_drawn_costs_neither_numbers_nor_tables(
    tmp_path, checkpoint, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("facerecon_lib.pictures.sheets.save_figure", full)
    numbers, figure = tmp_path / "n.json", tmp_path / "f.png"
    options = ["--rendered", "1", "--scans", "0", "--recognition", "none"]
    done = facerecon("evaluate", checkpoint, *options, "--json", numbers, "--figure", figure)
    refused(done, "f.png: cannot be written (No space left on device)")
    assert json.loads(numbers.read_text())["rendered"]["faces"]
    assert "1 rendered faces" in done.stdout


def test_files_are_there_before_tables_are_printed(tmp_path, checkpoint, monkeypatch):
    numbers, figure = tmp_path / "n.json", tmp_path / "f.png"
    there = []
    monkeypatch.setattr(
        "facerecon_lib.evaluation.tables.tables",
        lambda evaluation: there.extend([numbers.is_file(), figure.is_file()]) or [],
    )
    options = ["--rendered", "1", "--scans", "0", "--recognition", "none"]
    works("evaluate", checkpoint, *options, "--json", numbers, "--figure", figure)
    assert there == [True] * 4  # two tables' sets of faces, two files


def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    tmp_path, checkpoint, monkeypatch
):
    monkeypatch.setattr("facerecon_lib.cli.evaluate._evaluations", None)
    (tmp_path / "found-photos.png").mkdir()
    photos = ["--photos", SAMPLE, "--rendered", "1"]
    for options, says in (
        (["--json", "/proc/found.json"], "/proc/found.json: cannot be written"),
        (["--figure", "/proc/found.png"], "/proc/found.png: cannot be written"),
        (["--figure", tmp_path / "found.png", *photos], "found-photos.png: cannot be written (it"),
    ):
        refused(facerecon("evaluate", checkpoint, *options), says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--family", "wild"], "--family wild: expected train or held-out"),
        (["--part", "half"], "--part half: expected train or validation or test"),
        (["--part", "test", "--photos", SAMPLE], "--part test is of photos of shards"),
        (["--ratings", "r.csv"], "--ratings is of photos: add --photos"),
        (["--fit"], "--fit is of photos: add --photos"),
        (["--photos", SAMPLE, "--ratings", "r.csv"], "r.csv: cannot be read"),
        (["--split", "age"], "--split age: expected random or person"),
        (["--photos", "nowhere"], "--photos nowhere: there is no such folder"),
        (["--photos", "."], "holds no photo"),
        (["--data", "nowhere"], "nowhere"),
        (["--json", "found.txt"], "expected a name that ends in .json"),
        (["--figure", "no/found.png"], "there is no folder no"),
        (["--rendered", "0"], "nothing to evaluate"),
        (["--rendered", "-1"], "--rendered -1: expected 0 or more"),
        (["--device", "toaster"], "--device toaster: expected cpu"),
        (["--illumination", "candle"], "--illumination candle: expected photo or encoder or free"),
        (
            ["--illumination", "known", "--photos", SAMPLE],
            "illumination known: only rendered faces",
        ),
        (["--augmented", "--unet", "none.safetensors"], "none.safetensors"),
        (["--unet", "none.safetensors"], "add --augmented"),
        (["--recognition", "nobody"], "--recognition nobody: expected none, dlib or facenet"),
    ],
)
def test_evaluate_refuses_with_one_line(tmp_path, checkpoint, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    refused(facerecon("evaluate", checkpoint, *options), says)
    assert list(tmp_path.iterdir()) == []
