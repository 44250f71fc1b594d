"""The stored study of notebook 09: the script that makes it, and what reads it."""

import json
from pathlib import Path

import numpy as np
import pytest
import skin_tone_study as script
import torch
from safetensors.torch import save_file
from script_runs import run_script

from facerecon_lib.course.nb09_comparison import tone_study
from facerecon_lib.course.nb09_comparison.tone_study import MEASURES, METHODS, OFFSETS, load_study
from facerecon_lib.evaluation.surface import AREAS
from facerecon_lib.face.colour import SKIN_LIGHTNESS
from facerecon_lib.files.weights import shipped_file

FACES = 6


def a_run(runs: Path, name: str, change=lambda found: None, **settings) -> Path:
    """A folder as training and evaluation leave it. change: what is done to eval.json's content."""
    albedo, light = name.split("-")
    folder = runs / name
    folder.mkdir(parents=True)
    g = torch.Generator().manual_seed(sum(map(ord, name)))

    def numbers() -> list[float]:
        return torch.rand(FACES, generator=g).tolist()

    found = {
        "what": "6 rendered faces, seed 1, family held-out",
        "encoder": "base_encoder.safetensors",
        "light": light,
        "tones": [1, 2, 5, 7, 10, 10],
        "values": {m: {k: numbers() for k in MEASURES} for m in METHODS.values()},
        "offsets": {key: numbers() for key in OFFSETS},
        "area_shares": dict.fromkeys(AREAS, 1 / 6),
    }
    change(found)
    (folder / "eval.json").write_text(json.dumps({"rendered": found}))
    trained = dict.fromkeys(script.TRAINED, 1) | settings
    metadata = {"albedo": albedo, "light": light, "steps": "600", "settings": json.dumps(trained)}
    save_file({"x": torch.zeros(1)}, folder / "offset_unet.safetensors", metadata)
    return folder


def make(runs: Path, out: Path):
    return run_script(script.main, runs, "--out", out)


@pytest.mark.parametrize("names", [["light-known"], ["monk-free", "light-grey", "light-known"]])
def test_the_runs_that_are_there_are_read_back(tmp_path, names):
    for name in names:
        a_run(tmp_path / "runs", name)
    assert make(tmp_path / "runs", tmp_path / "study.json").exit_code == 0
    study = load_study(tmp_path / "study.json")
    assert list(study.runs) == names
    for name in names:
        found = json.loads((tmp_path / "runs" / name / "eval.json").read_text())["rendered"]
        for ours, theirs in METHODS.items():
            values = study.values(name, ours, "ita_bias")
            expected = torch.tensor(found["values"][theirs]["ita_bias"])
            assert torch.allclose(values, expected, rtol=5e-4, atol=0)
        moved = study.values(name, "offsets", "in lower jaw")
        assert torch.allclose(moved, torch.tensor(found["offsets"]["in lower jaw"]), rtol=5e-4)
    assert study.groups.tolist() == [0, 0, 2, 3, 4, 4]
    with pytest.raises(tone_study.StudyFileError, match="no run monk-known"):
        study.values("monk-known", "base", "ita_bias")


def test_a_face_that_was_not_measured_stays_so(tmp_path):
    def forget(found):
        found["values"]["encoder"]["photometric"][2] = None

    a_run(tmp_path / "runs", "light-known", forget)
    make(tmp_path / "runs", tmp_path / "study.json")
    values = load_study(tmp_path / "study.json").values("light-known", "base", "photometric")
    assert values.isnan().tolist() == [False, False, True, False, False, False]


def rated_photos(folder: Path, change=lambda found: None) -> None:
    """What evaluating photos leaves: three, of which two are rated."""
    found = {
        "faces": ["a.jpg", "b.jpg", "c.jpg"],
        "ratings": {"c.jpg": 8.0, "a.jpg": 2.5},
        "skin": {m: {"lightness": [70.0, 60.0, 40.0]} for m in METHODS.values()},
        "values": {m: {"photometric": [0.05, 0.04, None]} for m in METHODS.values()},
    }
    change(found)
    (folder / "photos.json").write_text(json.dumps({"photos": found}))


def test_rated_photos_are_read_back_and_shown(tmp_path):
    for name in ("light-free", "light-known"):
        folder = a_run(tmp_path / "runs", name)
    rated_photos(tmp_path / "runs/light-free")
    path = tmp_path / "runs/study.json"
    assert make(tmp_path / "runs", path).exit_code == 0
    study = load_study(path)
    assert study.photos["ratings"] == [2.5, 8.0]
    assert list(study.photos["runs"]) == ["light-free"]
    assert study.photos["runs"]["light-free"]["base"]["lightness"] == [70.0, 40.0]
    assert len(tone_study.photos_figure(study).axes) == 1
    lines = tone_study.photos_table(study).splitlines()
    away = [70 - np.interp(2.5, [2, 3], SKIN_LIGHTNESS[1:3]), 40 - SKIN_LIGHTNESS[7]]
    expected = [f"{away[0]:.0f}", "–", "–", f"{away[1]:.0f}", "–"]
    assert [line.split()[-5:] for line in lines[2:4]] == [expected] * 2
    assert lines[-1].split()[-5:] == ["0.050", "–", "–", "–", "–"]  # one was not measured
    rated_photos(folder, lambda found: found["ratings"].update({"b.jpg": 4.0}))
    refused(make(tmp_path / "runs", tmp_path / "s.json"), "other photos or ratings", tmp_path)
    rated_photos(folder, lambda found: found.pop("ratings"))
    refused(make(tmp_path / "runs", tmp_path / "s.json"), "--photos --ratings writes", tmp_path)


def drop(key):
    return lambda found: found.pop(key)


def shorten(found):
    found["offsets"]["texture"].pop()


REFUSED = {
    "an evaluation without the augmented branch": (drop("offsets"), "not what facerecon evaluate"),
    "a measure with a face too few": (shorten, "has 5 numbers for 6 faces"),
    "another light than the folder's": (lambda f: f.update(light="grey"), "under light 'grey'"),
    "numbers that are none": (lambda f: f["values"]["encoder"].update(ita_bias=["a"] * 6), "not"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_an_evaluation_that_does_not_fit_is_refused_in_a_line(tmp_path, change, words):
    a_run(tmp_path / "runs", "light-known", change)
    refused(make(tmp_path / "runs", tmp_path / "study.json"), words, tmp_path)


def refused(result, words: str, folder: Path) -> None:
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(folder.glob("*.json")) + list(folder.glob(".*.part"))


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    a_run(tmp_path / "runs", "monk-known")
    a_run(tmp_path / "runs", "light-known", batch=64)
    refused(make(tmp_path / "runs", tmp_path / "s.json"), "its trained differ", tmp_path)
    a_run(tmp_path / "other", "monk-known")
    a_run(tmp_path / "other", "light-known", lambda f: f.update(tones=[1, 2, 5, 7, 10, 9]))
    refused(make(tmp_path / "other", tmp_path / "s.json"), "its tones differ", tmp_path)


def test_a_folder_by_the_wrong_name_or_without_its_unet_is_refused(tmp_path):
    folder = a_run(tmp_path / "runs", "light-known")
    (folder / "offset_unet.safetensors").unlink()
    refused(make(tmp_path / "runs", tmp_path / "s.json"), "no U-Net that says how", tmp_path)
    a_run(tmp_path / "other", "light-known", lambda f: f.update(light="grey"))
    (tmp_path / "other" / "light-known").rename(tmp_path / "other" / "light-grey")
    refused(make(tmp_path / "other", tmp_path / "s.json"), "was trained as light-known", tmp_path)
    refused(make(tmp_path / "none", tmp_path / "s.json"), "holds none of monk-free", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1", "no JSON"),
        ('{"format": "other"}', "is not of format"),
        (json.dumps({"format": tone_study.FORMAT, "runs": {}}), "damaged"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, text, words):
    path = tmp_path / "study.json"
    path.write_text(text)
    with pytest.raises(tone_study.StudyFileError, match=words):
        load_study(path)
    with pytest.raises(tone_study.StudyFileError, match="no such file"):
        load_study(tmp_path / "nothing.json")


def test_the_shipped_study_is_small_whole_and_of_every_tone():
    study = load_study()
    assert shipped_file("skin_tone_study.json").stat().st_size < 300_000
    assert len(study.tones) == 120
    assert study.groups.bincount(minlength=len(tone_study.GROUPS)).min() > 5
    assert len(study.photos["runs"]) == 4
    assert {"light-known", "light-free", "monk-known"} <= set(study.runs)
    for name in study.runs:
        shares = sum(study.values(name, "offsets", f"in {area}") for area in AREAS)
        assert (shares - 1).abs().max() < 2e-3
        for method in METHODS:
            assert study.values(name, method, "photometric").isfinite().all()
    assert abs(sum(study.area_shares.values()) - 1) < 1e-3


def test_medians_and_their_spread_are_of_each_group_alone():
    tones = torch.tensor([1, 2, 2, 9, 10, 10, 10])
    values = torch.tensor([1.0, 2, 9, 5, torch.nan, 7, 6])
    groups = tone_study.tone_groups(tones)
    found = tone_study.medians(values, groups)
    assert [found[0], found[4]] == [2.0, 6.0]
    assert all(value != value for value in found[1:4])
    spread = tone_study.spread(torch.tensor([1.0, 2, 9, 5, 5, 5, 5]), groups)
    low, high = spread[0]
    assert 1 <= low < high <= 9
    assert spread[4] == (5.0, 5.0)


def test_the_table_has_a_column_a_group_and_a_dash_for_nobody():
    groups = tone_study.tone_groups(torch.tensor([1, 1, 10]))
    text = tone_study.tone_table(
        {"one": torch.tensor([1.0, 3.0, 5.0]), "given": [1, 2, 3, 4, 5]}, groups, 1
    )
    head, counts, one, given = text.splitlines()
    assert [f"tones {g}" in head for g in tone_study.GROUPS] == [True] * 5
    assert counts.split() == ["(2)", "(0)", "(0)", "(0)", "(1)"]
    assert one.split()[1:] == ["2.0", "–", "–", "–", "5.0"]
    assert given.split()[1:] == ["1.0", "2.0", "3.0", "4.0", "5.0"]


def test_a_figure_says_which_runs_are_missing(tmp_path):
    a_run(tmp_path / "runs", "light-known")
    make(tmp_path / "runs", tmp_path / "study.json")
    figure = tone_study.conditions_figure(load_study(tmp_path / "study.json"), "ita_bias", "title")
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert sum("no U-Net" in text for text in words) == 5
