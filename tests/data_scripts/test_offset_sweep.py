"""The stored fits of notebook 08: the script that makes them, and what reads them."""

import json
from itertools import product

import pytest
import sweep_offset_weights
import torch
from safetensors.torch import load_file, save_file
from studies import offset_weights as script

from facerecon_lib.course.nb08_regularisation.sweep import (
    EQUATIONS,
    MEASURES,
    SweepError,
    load_sweep,
)
from facerecon_lib.files.weights import shipped_file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "sweep.safetensors"
    few = ["--quick", "--steps", "2", "--only", "report term Eq. 8"]
    sweep_offset_weights.main([*few, "--out", str(path)])
    return path


def test_a_quick_sweep_is_read_back(made, capsys):
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    sweep = load_sweep(made)
    names = [run["name"] for run in sweep.runs]
    assert names == ["report term Eq. 8 x 10", "report term Eq. 8 x 1000"]
    assert sweep.at_weights("report", "Eq. 8") == {10: 0, 1000: 1}
    run = 1
    assert set(sweep.number_names) == set(MEASURES)
    assert sweep.number(run, "photometric", 0) > 0
    assert sweep.number(None, "displacement_max_mm", 1) == 0  # the base has no offsets
    assert sweep.number(None, "truth_mm", 0) != sweep.number(None, "truth_mm", 0)  # nan: a photo
    assert 0.3 < sweep.number(None, "truth_mm", 1) < 5
    for which, face, name in product(("wanted", "base", run), range(3), sweep.panel_names):
        size = script.PANEL if which == run else script.CLOSE
        assert sweep.panel(which, face, name).shape == (size, size, 3)
    shown = sweep.panel("base", 0, "rendering").astype(float)
    assert shown.std() > 20  # a face, and paper around it
    with pytest.raises(SweepError, match="no stored fit balanced full"):
        sweep.find("balanced", "full")


def test_the_fits_cover_every_equation_in_both_ways():
    for quick in (True, False):
        several = list(script.runs(quick))
        assert len({run.name for run in several}) == len(several)
        for way, reading in script.WAYS.items():
            of_way = [run for run in several if run.way == way]
            kinds = {(run.kind, run.equation) for run in of_way}
            expected = {(k, "") for k in ("alone", "mild", "full")}
            expected |= {(k, e) for k in ("term", "without") for e in EQUATIONS}
            assert kinds == expected
            for run in of_way:
                held = set(run.weights) - {"pixel", "landmark"}
                named = set(script.EQUATIONS.get(run.equation, ()))
                if run.kind in ("alone", "mild"):
                    assert not held
                elif run.kind == "term":
                    assert held == named
                    for name in held:
                        expected = run.multiple * reading.weights[name]
                        assert run.weights[name] == pytest.approx(expected)
                else:
                    assert held == set(script.REGULARISERS) - named


def test_the_chosen_faces_are_what_they_are_called():
    model = script.MorphableModel.load(subdivision=0)
    batch, rendered = script.three_faces(model)
    yaw = torch.rad2deg(rendered.truth.rotation[:, 1])
    assert len(batch) == 3
    assert abs(yaw[0]) < 8
    assert 25 < abs(yaw[1]) < 35
    assert (rendered.tone >= 6).all()  # the photo's skin is light
    moved = rendered.true_vertices - model.shape(rendered.truth.identity, rendered.truth.expression)
    assert (moved.norm(dim=-1).amax(1) > 0.3).all()  # details that no basis has


@pytest.mark.parametrize(
    ("arguments", "out", "message"),
    [
        (["--only", "nothing"], "sweep.safetensors", "no fit is called so"),
        (["--steps", "0"], "sweep.safetensors", "expected 1 or more"),
        ([], "no/sweep.safetensors", "there is no folder"),
    ],
)
def test_bad_arguments_are_refused(arguments, out, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        sweep_offset_weights.main(["--quick", *arguments, "--out", str(tmp_path / out)])
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused_in_one_line(made, tmp_path):
    tensors = load_file(made)
    (tmp_path / "damaged").write_bytes(made.read_bytes()[:1000])
    save_file(tensors, tmp_path / "other", {"format": "something"})
    save_file(tensors, tmp_path / "parts", {"format": script.FORMAT, "runs": "[]"})
    for name, message in {
        "missing": "there is no such file",
        "damaged": "not a readable safetensors file",
        "other": "format 'something'",
        "parts": "its parts do not fit",
    }.items():
        with pytest.raises(SweepError, match=message):
            load_sweep(tmp_path / name)


def test_what_ships_is_whole_and_small():
    path = shipped_file("offset_weight_sweep.safetensors")
    assert path.stat().st_size < 3_000_000
    sweep = load_sweep()
    assert [run["name"] for run in sweep.runs] == [run.name for run in script.runs()]
    assert not json.loads(sweep.metadata["settings"])["quick"]
    assert json.loads(sweep.metadata["weights"]) == {
        name: dict(way.weights) for name, way in script.WAYS.items()
    }, "the library's weights have changed since: run data_scripts/sweep_offset_weights.py again"
