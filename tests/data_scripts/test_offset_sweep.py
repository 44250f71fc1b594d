"""The stored fits of notebook 08: the script that makes them, and what reads them."""

import json

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
    sweep = load_sweep(made)
    assert [run["name"] for run in sweep.runs] == [
        "report term Eq. 8 x 10",
        "report term Eq. 8 x 1000",
    ]
    assert sweep.at_weights("report", "Eq. 8") == {10: 0, 1000: 1}
    run = 1
    assert set(sweep.number_names) == set(MEASURES)
    assert sweep.number(run, "photometric", 0) > 0
    assert sweep.number(None, "displacement_max_mm", 1) == 0  # the base has no offsets
    assert sweep.number(None, "truth_mm", 0) != sweep.number(None, "truth_mm", 0)  # nan: a photo
    assert 0.3 < sweep.number(None, "truth_mm", 1) < 5
    for which in ("wanted", "base", run):
        for face in range(3):
            for name in sweep.panel_names:
                panel = sweep.panel(which, face, name)
                assert panel.shape == (script.PANEL, script.PANEL, 3)
    shown = sweep.panel("base", 0, "rendering").astype(float)
    assert shown.std() > 20  # a face, and paper around it
    with pytest.raises(SweepError, match="no stored fit balanced full"):
        sweep.find("balanced", "full")


def test_nothing_is_left_beside_the_file(made):
    assert [path.name for path in made.parent.iterdir()] == [made.name]


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


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--steps", "0"]])
def test_bad_arguments_are_refused(arguments, tmp_path):
    out = tmp_path / "sweep.safetensors"
    with pytest.raises(SystemExit, match=r"expected 1 or more|no fit is called so"):
        sweep_offset_weights.main(["--quick", *arguments, "--out", str(out)])
    assert not out.exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="there is no folder"):
        sweep_offset_weights.main(["--quick", "--out", str(tmp_path / "no" / "sweep.safetensors")])


def test_other_files_are_refused_in_one_line(made, tmp_path):
    with pytest.raises(SweepError, match="there is no such file"):
        load_sweep(tmp_path / "missing.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(made.read_bytes()[:1000])
    with pytest.raises(SweepError, match="not a readable safetensors file"):
        load_sweep(damaged)
    other = tmp_path / "other.safetensors"
    save_file(load_file(made), other, {"format": "something"})
    with pytest.raises(SweepError, match="format 'something'"):
        load_sweep(other)
    save_file(load_file(made), other, {"format": script.FORMAT, "runs": "[]"})
    with pytest.raises(SweepError, match="its parts do not fit"):
        load_sweep(other)


def test_what_ships_is_whole_and_small():
    path = shipped_file("offset_weight_sweep.safetensors")
    assert path.stat().st_size < 3_000_000
    sweep = load_sweep()
    assert [run["name"] for run in sweep.runs] == [run.name for run in script.runs()]
    assert not json.loads(sweep.metadata["settings"])["quick"]
    assert json.loads(sweep.metadata["weights"]) == {
        name: dict(way.weights) for name, way in script.WAYS.items()
    }, "the library's weights have changed since: run data_scripts/sweep_offset_weights.py again"
