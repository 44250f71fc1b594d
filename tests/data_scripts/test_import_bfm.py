"""Basel Face Models of the right layout and made-up content: what comes out is what went in.

The content is the shipped model, so that the truth is known in millimetres.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import import_bfm
import numpy as np
import pytest
import torch
from face_models import bfm
from made_up_models.made_up_bfm import H5, MAT, NAMED, Truth, parts_2009, write_2009, write_statismo
from model_fits import fits_its_own_samples
from scipy.io import loadmat, savemat
from script_runs import run_script

from facerecon_lib.face.morphable_model import MorphableModel

h5py = pytest.importorskip("h5py")
IDENTITY, EXPRESSION, ALBEDO = 8, 6, 5


@pytest.fixture(scope="module")
def truth():
    return Truth(IDENTITY, EXPRESSION, ALBEDO)


@pytest.fixture(scope="module")
def made(truth, tmp_path_factory):
    """Both files, and those of 2009's expressions."""
    folder = tmp_path_factory.mktemp("bfm")
    write_2009(folder, truth)
    write_statismo(folder / H5, truth)
    return folder


def draw(*sizes):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(size) for size in sizes]


def combine(mean, *terms):
    return mean + sum(np.einsum("k,kvc->vc", weights, basis) for weights, basis in terms)


def holds_the_faces_of(source, truth, used=slice(None)):
    a, b, c = draw(IDENTITY, EXPRESSION, ALBEDO)
    face = combine(source.mean, (a, source.identity), (b, source.expression))
    expected = combine(truth.mean, (a, truth.identity), (b, truth.expression))[used]
    np.testing.assert_allclose(face, expected, atol=1e-3)  # mm
    colour = combine(source.albedo_mean, (c, source.albedo))
    np.testing.assert_allclose(colour, combine(truth.tone, (c, truth.albedo))[used], atol=1e-5)


def test_2009_gives_the_faces_that_went_in(truth, made):
    source = bfm.read_bfm(made / MAT, expression=made)
    holds_the_faces_of(source, truth, truth.used)
    np.testing.assert_array_equal(np.flatnonzero(source.keep), truth.front)
    # the triangles between vertices that stay, wound as they were before they were written
    stays = np.isin(truth.faces, truth.used).all(1)
    np.testing.assert_array_equal(truth.used[source.faces], truth.faces[stays])


def test_2009_without_expressions_is_the_whole_mesh(truth, made):
    source = bfm.read_bfm(made / MAT)
    np.testing.assert_allclose(source.mean, truth.mean, atol=1e-3)
    assert source.expression.shape == (0, len(truth.mean), 3)
    assert source.keep is None
    assert source.landmarks is None


def test_matlab_7_3_is_read_alike(truth, made, tmp_path):
    expected = bfm.read_bfm(made / MAT)
    path = tmp_path / "v73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in parts_2009(truth).items():
            file[name] = value.T
    content = bytearray(path.read_bytes())
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64"
    content[: len(header)] = header
    path.write_bytes(content)
    source = bfm.read_bfm(path)
    for name in ("mean", "identity", "albedo_mean", "albedo", "faces"):
        np.testing.assert_array_equal(getattr(source, name), getattr(expected, name))


@pytest.mark.parametrize("scaled", [False, True], ids=["statismo 0.9", "statismo 0.8"])
def test_2017_and_2019_give_the_faces_that_went_in(truth, tmp_path, scaled):
    source = bfm.read_bfm(write_statismo(tmp_path / H5, truth, scaled=scaled))
    holds_the_faces_of(source, truth)
    np.testing.assert_array_equal(source.faces, truth.faces)


def test_zero_is_neutral_and_the_mean_expression_is_still_reached(truth, tmp_path):
    """The modes about neutral keep the second moment, and span all expressions of the file."""
    smile = combine(np.zeros_like(truth.mean), (np.full(EXPRESSION, 0.7), truth.expression))
    smile[:, 1] += 0.5 * np.sin(truth.mean[:, 0] / 20)  # which the modes alone cannot make
    source = bfm.read_bfm(write_statismo(tmp_path / H5, truth, mean_expression=smile))
    np.testing.assert_allclose(source.mean, truth.mean, atol=1e-4)
    assert len(source.expression) == EXPRESSION + 1
    modes = source.expression.reshape(EXPRESSION + 1, -1)
    theirs = np.concatenate([smile[None], truth.expression]).reshape(EXPRESSION + 1, -1)
    rng = np.random.default_rng(2)
    for probe in rng.standard_normal((3, modes.shape[1])):
        np.testing.assert_allclose(
            modes.T @ (modes @ probe), theirs.T @ (theirs @ probe), rtol=1e-3, atol=1e-2
        )
    seen = combine(smile, (draw(EXPRESSION)[0], truth.expression)).ravel()
    weights = np.linalg.lstsq(modes.T, seen, rcond=None)[0]
    np.testing.assert_allclose(weights @ modes, seen, atol=1e-3)
    fewer = bfm.read_bfm(tmp_path / H5, modes=3)
    assert [len(x) for x in (fewer.identity, fewer.expression, fewer.albedo)] == [3, 3, 3]
    np.testing.assert_allclose(fewer.expression, source.expression[:3])


def test_unit_coefficients_move_a_face_by_millimetres(truth, made):
    """And reading a variance for a deviation, or a deviation for a variance, would not."""

    def plausible(basis):
        """The root mean square over the vertices of the first mode, mm."""
        return 0.3 < np.sqrt((basis[0] ** 2).sum(1).mean()) < 10

    for source in (bfm.read_bfm(made / MAT, expression=made), bfm.read_bfm(made / H5)):
        for basis in (source.identity, source.expression):
            assert plausible(basis)
            assert not plausible(basis * np.linalg.norm(basis[0]))  # the variance itself
    raw = parts_2009(truth)
    rooted = 1e-3 * raw["shapePC"][:, 0] * np.sqrt(raw["shapeEV"][0])
    assert not plausible(rooted.reshape(1, -1, 3))


@pytest.mark.parametrize("turn", [[0, 1, 2], [0, 2, 1]])
def test_triangles_come_out_wound_outwards_whichever_way_they_came(truth, turn):
    faces = bfm.outwards(Path("x"), truth.mean + [3.0, -5, 200], truth.faces[:, turn])
    nose = (faces == truth.landmarks[30]).any(1)
    a, b, c = np.moveaxis(truth.mean[faces[nose]], 1, 0)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_triangles_that_agree_on_no_side_are_refused(truth):
    faces = truth.faces.copy()
    faces[::2] = faces[::2, [0, 2, 1]]
    with pytest.raises(bfm.ImportModelError, match="not one surface"):
        bfm.outwards(Path("x"), truth.mean, faces)


STORED = {
    "text": lambda text: text,
    "bytes with a zero": lambda text: np.frombuffer(text.encode() + b"\0", np.int8),
}


@pytest.mark.parametrize("stored", STORED)
def test_named_landmarks_are_taken_and_the_rest_left_to_detection(truth, made, tmp_path, stored):
    with h5py.File(made / H5) as file:
        text = file["metadata/landmarks/json"][()].decode()
    path = write_statismo(tmp_path / H5, truth, landmarks=STORED[stored](text))
    found = bfm.read_bfm(path).landmarks
    assert set(np.flatnonzero(found >= 0)) == set(NAMED.values())  # no chin; one is far away
    for point in NAMED.values():
        assert np.linalg.norm(truth.mean[found[point]] - truth.mean[truth.landmarks[point]]) < 1


@pytest.mark.parametrize("text", ["{", "[]", "[1]", '{"a": 1}', '[{"id": "center.nose.tip"}]'])
def test_a_list_of_landmarks_that_cannot_be_read_leaves_all_to_detection(truth, tmp_path, text):
    path = write_statismo(tmp_path / H5, truth, landmarks=text)
    assert (bfm.read_bfm(path).landmarks == -1).all()


def test_landmarks_are_counted_as_in_the_file(truth, made, tmp_path):
    path = made / MAT
    points = tmp_path / "points.txt"
    points.write_text(" ".join(map(str, truth.landmarks)))
    source = bfm.read_bfm(path, expression=made, landmarks=points)
    np.testing.assert_array_equal(truth.used[source.landmarks], truth.landmarks)
    np.testing.assert_array_equal(bfm.read_bfm(path, landmarks=points).landmarks, truth.landmarks)
    gone = np.setdiff1d(np.arange(len(truth.mean)), truth.used)[0]
    points.write_text(" ".join(map(str, [gone, *truth.landmarks[1:]])))
    with pytest.raises(bfm.ImportModelError, match="point 1 is on a vertex"):
        bfm.read_bfm(path, expression=made, landmarks=points)


def test_deep3d_key_points_are_taken_where_they_are_there(truth, tmp_path):
    path = write_2009(tmp_path, truth)
    place = {v: i for i, v in enumerate(truth.used[truth.front])}
    points = [place[v] + 1 for v in truth.landmarks]
    savemat(tmp_path / "facemodel_info.mat", {"keypoints": [points]})
    source = bfm.read_bfm(path, expression=tmp_path)
    np.testing.assert_array_equal(truth.used[source.landmarks], truth.landmarks)


def on_a_folder(change):
    """The change with its arguments, still to be done to a folder."""
    return lambda *which, **how: lambda folder: change(folder, *which, **how)


@on_a_folder
def cut_short(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(0.6 * len(content))])


@on_a_folder
def rewrite(folder, name, text):
    (folder / name).write_text(text)


@on_a_folder
def change_mat(folder, name, **changes):
    data = loadmat(folder / name)
    data |= {key: change(data[key]) for key, change in changes.items()}
    held = {k: v for k, v in data.items() if v is not None and not k.startswith("__")}
    savemat(folder / name, held)


@on_a_folder
def change_h5(folder, name, change):
    with h5py.File(folder / H5, "r+") as file:
        value = change(file[name][()])
        del file[name]
        if value is not None:
            file[name] = value


def spoilt(values):
    return np.where(np.arange(values.size).reshape(values.shape) == 3, np.nan, values)


def gone(values):
    return None


def fewer(values):
    return values[:-3]


CELLS, VARIANCE = "shape/representer/cells", "shape/model/pcaVariance"
mat, index = partial(change_mat, MAT), partial(change_mat, "BFM_exp_idx.mat")
REFUSED = {  # what is done to the folder, and what the line says
    MAT: {
        "cut": (cut_short(MAT), "not a readable .mat file|lacks"),
        "a text": (rewrite(MAT, "no model"), "not a readable .mat file: it holds text"),
        "a pointer": (
            rewrite(MAT, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"),
            "is a Git LFS pointer, not the file",
        ),
        "empty": (rewrite(MAT, ""), "not a readable .mat file"),
        "a web page": (rewrite(MAT, "\n<html>log in"), "is a web page: log in"),
        "an archive": (rewrite(MAT, "PK\x03\x04..."), "is a zip archive: unpack it"),
        "Deep3D's own": (
            lambda folder: savemat(folder / MAT, {"meanshape": np.ones(3)}),
            "lacks shapeMU, .*give BFM 2009's 01_MorphableModel.mat",
        ),
        "no colours": (mat(texMU=gone), "lacks texMU;"),
        "text for numbers": (mat(texMU=lambda x: "x"), "texMU holds no numbers"),
        "other sizes": (mat(shapePC=fewer), "shape: sizes do not fit"),
        "fewer colours": (mat(texMU=fewer, texPC=fewer), "texMU has .* vertices and shapeMU"),
        "not finite": (mat(shapePC=spoilt), "shape: numbers that are not finite"),
        "from 0": (mat(tl=lambda x: x - 1), "triangles name vertices outside 1 to"),
        "quads": (mat(tl=lambda x: x[:, [0, 1, 2, 2]]), "triangles are a table"),
        "no index files": (
            lambda folder: [(folder / f"BFM_{x}_idx.mat").unlink() for x in ("exp", "front")],
            "lacks BFM_exp_idx.mat, BFM_front_idx.mat; it needs all of Exp_Pca.bin",
        ),
        "index of another": (
            index(trimIndex=lambda x: x + np.uint16(500)),
            "trimIndex names vertices outside 1 to",
        ),
        "twice": (
            index(trimIndex=lambda x: np.r_[x[:1], x[:-1]]),
            "trimIndex names a vertex twice",
        ),
        "shorter index": (
            index(trimIndex=lambda x: x[:-300]),
            "BFM_front_idx.mat: idx names|Exp_Pca.bin: 6 modes on .* .BFM_exp_idx.mat. make",
        ),
        "cut Exp_Pca.bin": (cut_short("Exp_Pca.bin"), "Exp_Pca.bin: 6 modes .* cut short"),
        "empty Exp_Pca.bin": (rewrite("Exp_Pca.bin", ""), "Exp_Pca.bin: 0 modes"),
        "few deviations": (rewrite("std_exp.txt", "1 2"), "std_exp.txt: 2 standard deviations"),
        "no deviations": (rewrite("std_exp.txt", "one"), "std_exp.txt: not a list of numbers"),
    },
    H5: {
        "cut": (cut_short(H5), "not a readable HDF5 file"),
        "no cells": (change_h5(CELLS, gone), f"lacks {CELLS}"),
        "no expressions": (change_h5("expression/model/mean", gone), "lacks expression/model/mean"),
        "negative variance": (
            change_h5(VARIANCE, np.negative),
            "pcaVariance holds numbers below zero",
        ),
        "other variances": (change_h5(VARIANCE, fewer), "shape: pcaBasis is .*, pcaVariance"),
        "not finite": (change_h5("color/model/mean", spoilt), "color: numbers that are not"),
        "cells turned": (change_h5(CELLS, np.transpose), "triangles are a table"),
        "cells from 1": (change_h5(CELLS, lambda x: x + 1), "triangles name vertices outside 0 to"),
    },
}


@pytest.mark.parametrize(("name", "what"), [(n, what) for n in REFUSED for what in REFUSED[n]])
def test_a_file_that_does_not_match_is_refused_in_one_line(made, tmp_path, name, what):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    damage, line = REFUSED[name][what]
    damage(tmp_path)
    with pytest.raises(bfm.ImportModelError, match=line) as refusal:
        bfm.read_bfm(tmp_path / name, tmp_path if name == MAT else None)
    assert "\n" not in str(refusal.value)


def same_faces(model, mean, identity, expression):
    """The largest distance of two random faces of both, mm, after the offset that is said."""
    a, b = draw(len(identity), len(expression))
    offset = json.loads(model.metadata["offset_mm"])
    truth = combine(mean, (a, identity), (b, expression)) + offset
    a, b = (torch.tensor(x, dtype=torch.float32)[None] for x in (a, b))
    return np.linalg.norm(model.shape(a, b)[0].numpy() - truth, axis=1).max()


def test_2009_comes_out_of_the_command_as_the_model_that_went_in(truth, made, tmp_path):
    points, out = tmp_path / "points.txt", tmp_path / "bfm2009.safetensors"
    points.write_text(" ".join(map(str, truth.landmarks)))
    options = ("--expression", made, "--landmarks", points, "--out", out, "--no-bind")
    result = run_script(import_bfm.main, made / MAT, *options)
    assert result.exit_code == 0, result.output
    model = MorphableModel.load(out, subdivision=0)
    assert model.sizes == (IDENTITY, EXPRESSION, ALBEDO)
    whole = np.isin(truth.faces, truth.used[truth.front]).all(1)
    kept = truth.used[np.isin(truth.used, truth.faces[whole])]
    assert len(model.mean) == len(kept)
    bases = truth.identity[:, kept], truth.expression[:, kept]
    assert same_faces(model, truth.mean[kept], *bases) < 0.05  # half-precision bases
    np.testing.assert_array_equal(kept[model.landmarks], truth.landmarks)
    np.testing.assert_allclose(model.albedo_mean, truth.tone[kept], atol=1e-4)
    assert "non-commercial" in model.metadata["licence"]
    fits_its_own_samples(model)


def test_2019_takes_the_named_landmarks_and_finds_the_others(truth, made, monkeypatch):
    from face_models import landmarks as imported_landmarks
    from face_models import source_model as imported_model
    from face_models.registration import shipped_face

    def seven_mm_up(mean, faces, colours):
        """A detector with a habit, on the shipped model and on the made-up one."""
        shipped, _ = shipped_face()
        same = len(mean) == len(shipped.mean)
        return mean[shipped.landmarks if same else truth.landmarks] + [0, 7, 0]

    monkeypatch.setattr(imported_landmarks, "marked", seven_mm_up)
    source = bfm.read_bfm(made / H5)
    tensors, metadata = imported_model.finish(source, crop=False)
    at = tensors["mean"][tensors["landmarks"]] - json.loads(metadata["offset_mm"])
    away = np.linalg.norm(at - truth.mean[truth.landmarks], axis=1)
    named = list(NAMED.values())
    np.testing.assert_array_equal(tensors["landmarks"][named], source.landmarks[named])
    assert away.max() < 4  # not 7
    assert np.delete(away, named).mean() < 0.5
    assert "63 of the 68" in metadata["notes"]


@pytest.mark.slow
def test_2019_is_imported_without_any_landmarks_given(truth, made, tmp_path):
    out = tmp_path / "bfm2019.safetensors"
    assert run_script(import_bfm.main, made / H5, "--out", out).exit_code == 0
    model = MorphableModel.load(out, subdivision=0)
    offset = json.loads(model.metadata["offset_mm"])
    at = model.landmark_points(model.mean[None])[0].numpy() - offset
    away = np.linalg.norm(at - truth.mean[truth.landmarks], axis=1)
    assert away.mean() < 1
    fits_its_own_samples(model)
    assert model.dense.offsets[:468].norm(dim=1).median() < 3  # mm


def test_a_file_with_variances_where_deviations_belong_is_refused(made, tmp_path):
    from face_models.sanity import check_motion

    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    for name in (MAT, H5):
        source = bfm.read_bfm(tmp_path / name)
        check_motion(source.identity, source.expression, named=False)
    change_mat(MAT, shapeEV=lambda x: x**2)(tmp_path)
    change_h5("shape/model/pcaVariance", np.square)(tmp_path)
    for name in (MAT, H5):
        source = bfm.read_bfm(tmp_path / name)
        with pytest.raises(bfm.ImportModelError, match="one unit of identity mode"):
            check_motion(source.identity, source.expression, named=False)


def test_without_h5py_one_line_says_what_to_install(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    result = run_script(import_bfm.main, made / H5, "--out", tmp_path / "x.safetensors")
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("needs h5py: pip install h5py")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_expressions_of_2009_are_refused_for_a_file_that_has_its_own(made):
    for arguments, message in (
        ((made / H5, made), "has expressions of its own"),
        ((made,), "is a folder"),
        ((made / "nothing.mat",), "no such file"),
    ):
        with pytest.raises(bfm.ImportModelError, match=message):
            bfm.read_bfm(*arguments)
