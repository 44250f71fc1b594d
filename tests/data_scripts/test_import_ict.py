"""ICT-FaceKit's folder, made up from the shipped model and real: millimetres, sides, refusals."""

import json
import re
import shutil
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from face_models.ict import read_ict
from face_models.tables import ImportModelError
from import_ict import main
from model_fits import fits_its_own_samples

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.dense import GAPS, LEFT_LIDS, RIGHT_LIDS

REAL = Path(__file__).parents[3] / "shared" / "ict_facekit" / "ict_facekit_subset.tar.xz"
ACTIONS = dict(jawOpen="jawOpen", mouthSmile_L="mouthSmileLeft", mouthSmile_R="mouthSmileRight")
MODES = (0, 5)


@pytest.fixture(scope="module")
def slots(shipped):
    """ICT's vertex of each of the shipped model's: eyeballs in their ranges, the rest the face."""
    eye, left = shipped.regions["eyeballs"] > 0.5, shipped.mean[:, 0] > 0
    slots = np.zeros(len(eye), int)
    for start, part in ((0, ~eye), (21451, eye & left), (23021, eye & ~left)):
        slots[part.numpy()] = start + np.arange(int(part.sum()))
    return slots


def written(path, points, slots, texture, polygons):
    """An .obj of 26,719 vertices, centimetres; those of no polygon lie behind the left eye."""
    every = np.repeat(points[slots == 21451] - [0, 0, 15], 26719, 0)
    every[slots] = points
    lines = ["# made up", "usemtl M_Face"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in every / 10]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in texture]
    lines += ["f " + " ".join(f"{c + 1}/{c + 1}" for c in p) for p in polygons]
    path.write_text("\n".join(lines) + "\n")


def quads_and_triangles(faces, mirror):
    """Some pairs of triangles that share an edge joined to quads, and so their mirror images."""
    triangle = {frozenset(t): i for i, t in enumerate(faces)}
    twin = [triangle[frozenset(mirror[c] for c in t)] for t in faces]
    beyond = {(t[k - 1], t[k]): i for i, t in enumerate(faces) for k in range(3)}
    quads, done = {}, set()
    for i, t in enumerate(faces):
        for k in range(3):
            j = beyond.get((t[k], t[k - 1]))
            four = {i, j, twin[i], twin[j]} if j is not None else set()
            if len(four) == 4 and not four & done:
                done |= four
                for one, other in ((i, j), (twin[i], twin[j])):
                    turns = (np.roll(faces[one], r).tolist() for r in range(3))
                    a, b, c = next(t for t in turns if {*t[:2]} < {*faces[other]})
                    quads[one] = [a, ({*faces[other]} - {a, b}).pop(), b, c]
    return [*quads.values(), *(t for i, t in enumerate(faces) if i not in done)]


@pytest.fixture(scope="module")
def made_up(shipped, slots, tmp_path_factory):
    """A folder of the right layout: two identities, three expressions, the shipped face's shape."""
    folder = tmp_path_factory.mktemp("ict") / "FaceXModel"
    folder.mkdir()
    mean = shipped.mean.numpy()
    polygons = quads_and_triangles(shipped.faces.tolist(), shipped.mirror.tolist())
    polygons = [slots[polygon].tolist() for polygon in polygons]
    assert {len(p) for p in polygons} == {3, 4}
    texture = np.zeros((26719, 2))
    texture[slots] = shipped.uv.numpy().clip(0.001, 0.999)
    faces = {"generic_neutral_mesh": mean}
    for i, mode in enumerate(MODES):
        faces[f"identity{i:03d}"] = mean + shipped.identity_basis[mode].numpy()
    for ict, ours in ACTIONS.items():
        coefficients = shipped.expression_from_controls({ours: 1.0})
        faces[ict] = shipped.shape(torch.zeros(1, 80), coefficients)[0].numpy()
    for name, points in faces.items():
        written(folder / f"{name}.obj", points, slots, texture, polygons)
    table = {"expressions": ["browDown_L", *ACTIONS]}
    table["idx_to_landmark_verts"] = slots[shipped.landmarks].tolist()
    (folder / "vertex_indices.json").write_text(json.dumps(table))
    return folder


@pytest.fixture(scope="module")
def source(made_up):
    return read_ict(made_up)


def test_centimetres_become_millimetres_at_the_same_vertices(shipped, slots, source):
    np.testing.assert_allclose(source.mean[slots], shipped.mean, atol=1e-4)
    modes = shipped.identity_basis[list(MODES)]
    np.testing.assert_allclose(source.identity[:, slots], modes, atol=2e-4)
    np.testing.assert_array_equal(source.landmarks, slots[shipped.landmarks])


def test_an_action_named_as_arkit_names_it_is_the_whole_action(shipped, slots, source):
    assert list(source.controls) == list(ACTIONS.values())
    for name, coefficients in source.controls.items():
        moved = np.einsum("m,mvc->vc", coefficients, source.expression)
        expected = shipped.shape(torch.zeros(1, 80), shipped.expression_from_controls({name: 1.0}))
        np.testing.assert_allclose(moved[slots], expected[0] - shipped.mean, atol=2e-4)
    left = np.einsum("m,mvc->vc", source.controls["mouthSmileLeft"], source.expression)
    weight, x = (left**2).sum(1), source.mean[:, 0]
    assert weight[x > 0].sum() > 0.8 * weight.sum()  # the subject's left is +x


def test_quads_are_cut_alike_on_both_sides_and_face_outwards(shipped, source):
    known = {frozenset(t) for t in source.faces.tolist()}
    assert {frozenset(t) for t in source.mirror[source.faces].tolist()} == known
    assert len(source.faces) == len(shipped.faces)
    a, b, c = (source.mean[source.faces[:, i]] for i in range(3))
    d, e, f = (shipped.mean[shipped.faces[:, i]].double().numpy() for i in range(3))
    expected = np.cross(e - d, f - d).sum(0)
    np.testing.assert_allclose(np.cross(b - a, c - a).sum(0), expected, atol=1)


def test_parts_share_one_square_of_uv_without_covering_each_other(shipped, slots, source):
    uv = source.uv[slots]
    assert uv.min() >= 0
    assert uv.max() <= 1
    eye, left = (shipped.regions["eyeballs"] > 0.5).numpy(), (shipped.mean[:, 0] > 0).numpy()
    np.testing.assert_allclose(uv[~eye] / 0.75, shipped.uv[~eye].clip(0.001, 0.999), atol=1e-5)
    assert uv[~eye].max() <= 0.75 < uv[eye, 1].min()
    assert uv[eye & left, 0].min() >= 0.25 >= uv[eye & ~left, 0].max()


def test_what_is_missing_is_said(source):
    assert source.licence == "MIT"
    assert any("2 of ICT's 100" in note for note in source.notes)
    assert any("3 of the 4" in note and "browDown_L" in note for note in source.notes)


def damaged(folder, tmp_path, name=None, change=None):
    """The folder again, with one file changed, or without it."""
    copy = shutil.copytree(folder, tmp_path / "FaceXModel")
    if change is not None:
        (copy / name).write_text(change((copy / name).read_text()))
    elif name is not None:
        (copy / name).unlink()
    return copy


def other_landmarks(text):
    return json.dumps(json.loads(text) | {"idx_to_landmark_verts": [1, 2, 3]})


NEUTRAL, INDICES = "generic_neutral_mesh.obj", "vertex_indices.json"
OUT_OF_RANGE = partial(re.sub, r"\nf \d+/", "\nf 99999/", count=1)
REFUSALS = {
    "cut off in the vertices": ("identity001.obj", lambda t: t[: len(t) // 4], "vertices"),
    "cut off in the polygons": ("identity001.obj", lambda t: t[:-40], "cut off"),
    "of another mesh": ("jawOpen.obj", lambda t: t.replace("\nf ", "\nf 7/7 ", 1), "polygons"),
    "one vertex more": ("identity000.obj", lambda t: t + "v 0 0 0\n", "26720 vertices"),
    "no number": ("identity000.obj", lambda t: t.replace("v ", "v x", 1), "3 numbers"),
    "not a finite number": ("identity000.obj", lambda t: t.replace("v ", "v nan ", 1), "3 numbers"),
    "a polygon out of range": (NEUTRAL, OUT_OF_RANGE, "outside 1 to 26719"),
    "no polygon": (NEUTRAL, lambda t: t.replace("\nf ", "\nf a/b ", 1), "no triangle or quad"),
    "no neutral face": (NEUTRAL, None, "cannot be read"),
    "no vertex_indices.json": (INDICES, None, "names the landmarks"),
    "vertex_indices.json is no JSON": (INDICES, lambda t: t[:20], "lacks a readable"),
    "vertex_indices.json without names": (INDICES, lambda t: "{}", "expressions"),
    "three landmarks": (INDICES, other_landmarks, "expected 68"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_folder_that_does_not_match_is_refused_in_one_line(case, made_up, tmp_path):
    name, change, why = REFUSALS[case]
    folder = damaged(made_up, tmp_path, name, change)
    with pytest.raises(ImportModelError, match=why) as refusal:
        read_ict(folder)
    assert "\n" not in str(refusal.value)
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("mouthSmile_L", "mouthSmile_R", r"mouthSmile_R\.obj: moves the other side"),
        ("generic_neutral_mesh", "identity001", "is the neutral face"),
    ],
)
def test_a_mesh_under_another_name_is_refused(made_up, tmp_path, one, other, why):
    folder = damaged(made_up, tmp_path)
    shutil.copy(folder / f"{one}.obj", folder / f"{other}.obj")
    with pytest.raises(ImportModelError, match=why):
        read_ict(folder)


def test_the_command_refuses_with_exit_2_and_leaves_no_file(tmp_path, capsys):
    with pytest.raises(typer.Exit) as stopped:
        main(tmp_path / "nowhere", tmp_path / "out" / "ict.safetensors")
    assert stopped.value.exit_code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "no such folder" in said.err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_imported_file_is_the_face_it_came_from(made_up, shipped, slots, tmp_path):
    main(made_up.parent, tmp_path / "ict.safetensors", bind=False)  # the folder above will do
    model = MorphableModel.load(tmp_path / "ict.safetensors", subdivision=0)
    expected, found = (m.landmark_points(m.mean[None])[0] for m in (shipped, model))
    shift = (found - expected).mean(0)
    torch.testing.assert_close(found - shift, expected, atol=2e-3, rtol=0)
    assert model.metadata["licence"] == "MIT"
    smile = model.expression_from_controls({"mouthSmileLeft": 1.0})
    moved = (model.shape(torch.zeros(1, 2), smile)[0] - model.mean).norm(dim=1)
    left, right = moved[model.landmarks[[54, 48]]]
    assert left > 4 * right
    assert 5 < left < 25  # mm
    assert [p.name for p in tmp_path.iterdir()] == ["ict.safetensors"]


def test_a_folder_without_expressions_is_a_model_of_identity_alone(made_up, tmp_path):
    folder = damaged(made_up, tmp_path)
    for name in ACTIONS:
        (folder / f"{name}.obj").unlink()
    main(folder, tmp_path / "ict.safetensors", modes=1, bind=False)
    model = MorphableModel.load(tmp_path / "ict.safetensors", subdivision=0)
    assert model.sizes[:2] == (1, 0)
    assert "0 of the 4" in model.metadata["notes"]
    moved = model.shape(torch.ones(1, 1), torch.zeros(1, 0))[0] - model.mean
    torch.testing.assert_close(moved, model.identity_basis[0], atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(), reason="no part of ICT-FaceKit at hand")
def test_the_real_part_is_a_face_of_a_plausible_size(tmp_path):
    with tarfile.open(REAL) as archive:
        archive.extractall(tmp_path, filter="data")
    out = tmp_path / "ict.safetensors"
    main(tmp_path / "FaceXModel", out)
    model = MorphableModel.load(out, subdivision=0)
    assert model.sizes[:2] == (5, 7)
    points = model.landmark_points(model.mean[None])[0]
    assert 88 < (points[36] - points[45]).norm() < 90  # outer corners of the eyes
    assert points[36, 0] < 0 < points[45, 0]
    assert points[8, 1] < points[33, 1] < points[27, 1]
    rms = model.identity_basis.square().sum(-1).mean(-1).sqrt()
    assert (rms > 0.5).all()  # mm
    assert (rms < 5).all()
    assert rms.argmax() == 0
    assert model.metadata["mirror"] == "exact"
    twin = model.mean[model.mirror] * torch.tensor([-1.0, 1, 1])
    assert (twin - model.mean).norm(dim=1).max() < 0.5
    blink = model.expression_from_controls({"eyeBlinkLeft": 1.0})
    moved = (model.shape(torch.zeros(1, 5), blink)[0] - model.mean)[model.landmarks[36:48], 1]
    assert moved[[7, 8]].max() < -4  # the subject's left upper lid
    assert moved[:6].abs().max() < 0.1
    fits_its_own_samples(model)
    points = model.dense.vertices[GAPS]  # of the lids, not of the eyeballs
    opened, closed = (
        (face[points[0]] - face[points[1]])[:, 1]
        for face in (model.mean, model.shape(torch.zeros(1, 5), blink)[0])
    )
    left = slice(len(RIGHT_LIDS), len(RIGHT_LIDS + LEFT_LIDS))
    assert (closed[left] < 0.4 * opened[left]).all()
