"""What all importers share, on a model made up from the one that ships: renumbered, moved, bent."""

import json
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
import typer
from face_models import landmarks as imported_landmarks
from face_models import mesh_cut, mesh_views
from face_models import registration as laid_on
from face_models import source_model as imported_model
from face_models.sanity import check_motion
from face_models.source_model import SourceModel, finish, run, write_model
from face_models.tables import ImportModelError
from model_fits import fits_its_own_samples

from facerecon_lib.face.mesh import boundary_edges
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.photos.face_mesh_network import FaceMeshError
from facerecon_lib.photos.landmarks import DetectionError, choose_detector

MOVED = np.array([0.0, -30.0, 55.0])
GROUPS = {"brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)


shipped = partial(laid_on.shipped_model, 0)


@lru_cache
def order() -> np.ndarray:
    """The shipped model's vertex behind each of the made-up one's."""
    return np.random.default_rng(0).permutation(len(shipped().mean))


@lru_cache
def made_up() -> SourceModel:
    """A wider face on the shipped mesh, renumbered and moved; 6 modes, two named actions."""
    m, new = shipped(), order()
    place = np.argsort(new)
    bent = (m.mean + 1.2 * (m.identity_basis[1] + m.identity_basis[3])).double().numpy() * 1.04
    actions = ["jawOpen", "mouthSmileLeft"]
    moves = [torch.einsum("k,kvc->vc", m.controls[a], m.expression_basis) for a in actions]
    return SourceModel(
        name="made up",
        licence="none",
        provenance="a test",
        mean=bent[new] + MOVED,
        identity=m.identity_basis[:6, new].double().numpy(),
        expression=torch.stack(moves)[:, new].double().numpy(),
        faces=place[m.faces.numpy()],
        landmarks=place[m.landmarks.numpy()],
        controls=dict(zip(actions, np.eye(2), strict=True)),
    )


@lru_cache
def finished(crop: bool = False) -> tuple[dict, dict]:
    return finish(made_up(), crop=crop)


def with_a_strip(source: SourceModel) -> SourceModel:
    """A strip inside the head, 60 by 400 mm and joined to nothing, in squares of 10 mm."""
    x, y = np.meshgrid(np.linspace(-30, 30, 7), np.linspace(-200, 200, 41))
    sheet = np.stack([x.ravel(), y.ravel(), np.full(x.size, -30.0)], 1) + MOVED
    first = len(source.mean) + np.arange(x.size).reshape(x.shape)
    a, b, c, d = first[:-1, :-1], first[:-1, 1:], first[1:, :-1], first[1:, 1:]
    more = np.stack([a, b, c, b, d, c], -1).reshape(-1, 3)
    still = np.zeros((1, len(sheet), 3))
    return replace(
        source,
        mean=np.r_[source.mean, sheet],
        identity=np.concatenate([source.identity, still.repeat(6, 0)], 1),
        expression=np.concatenate([source.expression, still.repeat(2, 0)], 1),
        faces=np.r_[source.faces, more],
    )


# What is handed on ------------------------------------------------------------------------------


def test_the_file_loads_as_the_same_shapes_moved_to_where_the_shipped_face_is(tmp_path):
    source, (tensors, metadata) = made_up(), finished()
    model = write_model(tmp_path / "m.safetensors", tensors, metadata)
    native = MorphableModel.load(tmp_path / "m.safetensors", subdivision=0)
    assert model.metadata["subdivision"] == "1"
    assert len(model.mean) > 3 * len(native.mean)
    offset = np.array(json.loads(metadata["offset_mm"]))
    assert offset[0] == 0  # its own middle plane is kept
    np.testing.assert_allclose(native.mean, source.mean + offset, atol=1e-3)
    middle = native.mean[native.landmarks[17:]].mean(0)
    target = shipped().mean[shipped().landmarks[17:]].mean(0)
    torch.testing.assert_close(middle[1:], target[1:], atol=0.2, rtol=0)  # subdivided: 0.06
    np.testing.assert_allclose(native.identity_basis, source.identity, atol=0.01)
    smile = native.expression_from_controls({"mouthSmileLeft": 1.0})
    moved = native.shape(torch.zeros(1, 6), smile)[0] - native.mean
    np.testing.assert_allclose(moved, source.expression[1], atol=0.02)
    assert native.uv.min() >= 0
    assert native.uv.max() <= 1
    assert 40 < native.contour_bands.shape[1] <= imported_model.BAND + 1
    assert torch.equal(native.contour_bands[:, 0], native.landmarks[:17])


def test_regions_and_skin_are_carried_to_the_same_places():
    tensors, metadata = finished()
    m, new = shipped(), order()
    assert metadata["default_albedo"] == "monk"
    for name, mask in zip(json.loads(metadata["regions"]), tensors["regions"], strict=True):
        away = np.abs(mask - m.regions[name].numpy()[new])
        assert away.mean() < 0.04, (name, away.mean())
    fine = len(tensors["albedo_mean_monk"])
    assert fine > 3 * len(new)  # as sharp as the mesh that is drawn
    away = np.abs(tensors["albedo_mean_monk"][: len(new)] - m.albedo_mean.numpy()[new])
    assert away.mean() < 0.005
    brows, inside = (m.regions[name].numpy()[new] > 0.5 for name in ("brows", "mouth_interior"))
    assert away[brows].mean() < 0.02
    assert away[inside].mean() < 0.02  # no skin inside the mouth, no gums on teeth
    eyes = m.regions["eyeballs"].numpy()[new] > 0.5
    assert away[eyes].mean() < 0.03  # an iris stays on the iris
    assert tensors["albedo_basis_light"].shape == (25, fine, 3)


def test_the_symmetry_of_a_renumbered_mesh_is_found_and_survives_subdivision(tmp_path):
    tensors, metadata = finished()
    assert metadata["mirror"] == "exact"
    place = np.argsort(order())
    np.testing.assert_array_equal(tensors["mirror"], place[shipped().mirror.numpy()[order()]])
    model = write_model(tmp_path / "m.safetensors", tensors, metadata)
    assert torch.equal(model.mirror[model.mirror], torch.arange(len(model.mean)))


def test_a_mesh_without_symmetry_gets_the_nearest_vertices_at_every_density(tmp_path):
    source = made_up()
    skin = shipped().regions["cheeks"].numpy()[order()] > 0.3
    pairs = {}
    for i, t in enumerate(source.faces):
        for k in range(3):
            pairs.setdefault(frozenset((t[k], t[k - 1])), []).append(i)
    edge, (i, j) = next((e, p) for e, p in pairs.items() if len(p) == 2 and skin[list(e)].all())
    a, b = edge
    c, d = (next(iter(set(source.faces[x]) - edge)) for x in (i, j))
    faces = source.faces.copy()
    ring = list(source.faces[i])
    if ring[(ring.index(a) + 1) % 3] != b:
        a, b = b, a
    faces[i], faces[j] = (a, d, c), (d, b, c)  # the other diagonal, on one side alone
    tensors, metadata = finish(replace(source, faces=faces), crop=False)
    assert metadata["mirror"] == "nearest"
    assert "not symmetric" in metadata["notes"]
    model = write_model(tmp_path / "m.safetensors", tensors, metadata)
    away = model.mean[model.mirror] * torch.tensor([-1.0, 1, 1]) - model.mean
    assert away.norm(dim=-1).max() < 3
    assert away.norm(dim=-1).median() < 0.02


def test_scans_colours_are_kept_and_their_samples_are_normal():
    source = made_up()
    colours = np.random.default_rng(1).uniform(0.2, 0.8, source.mean.shape)
    basis = np.full((3, *source.mean.shape), 0.05)
    tensors, metadata = finish(replace(source, albedo_mean=colours, albedo=basis), crop=False)
    assert metadata["default_albedo"] == "scans"
    assert {"albedo_mean_monk", "albedo_mean_light"} < set(tensors)  # for what compares bases
    np.testing.assert_allclose(tensors["albedo_mean_scans"], colours, atol=1e-6)
    samples = tensors["albedo_samples_scans"].astype(float)
    assert samples.shape == (500, 3)
    assert abs(samples.mean()) < 0.1
    assert 0.9 < samples.std() < 1.1


def test_a_mean_skin_alone_is_a_model_without_albedo_modes(tmp_path):
    source = made_up()
    colours = np.full(source.mean.shape, 0.4)
    tensors, metadata = finish(replace(source, albedo_mean=colours), crop=False)
    model = write_model(tmp_path / "m.safetensors", tensors, metadata)
    assert model.sizes.albedo == 0
    assert "no albedo modes" in metadata["notes"]
    plain = torch.full((2, len(model.mean), 3), 0.4)
    torch.testing.assert_close(model.albedo(torch.zeros(2, 0)), plain)
    assert model.random(2, torch.Generator().manual_seed(0))[2].shape == (2, 0)
    with pytest.raises(ImportModelError, match="albedo modes without a mean"):
        finish(replace(source, albedo=np.zeros((1, *source.mean.shape))), crop=False)


@pytest.mark.slow
def test_fitting_with_an_imported_model_finds_its_own_faces(tmp_path):
    tensors, metadata = finished(crop=True)
    metadata = metadata | {"default_subdivision": "0"}
    fits_its_own_samples(write_model(tmp_path / "m.safetensors", tensors, metadata), least=0.4)


# The crop ---------------------------------------------------------------------------------------


def test_the_crop_keeps_the_face_and_cuts_a_smooth_border():
    source = with_a_strip(made_up())
    tensors, metadata = finish(source)
    kept, mean = len(tensors["mean"]), tensors["mean"]
    assert 3437 < kept < len(source.mean) - 60
    assert tensors["identity_basis"].shape[1] == kept
    offset = np.array(json.loads(metadata["offset_mm"]))
    points = source.mean[source.landmarks] + offset
    np.testing.assert_allclose(mean[tensors["landmarks"]], points, atol=1e-3)
    assert np.unique(tensors["faces"]).size == kept  # no vertex of no triangle
    # the sheet ends where the face ends: its triangles are cut through, not left out
    sheet = np.abs(mean[:, 2] - (MOVED[2] - 30 + offset[2])) < 1e-3
    border = boundary_edges(torch.tensor(tensors["faces"])).unique().numpy()
    rim = (mean - offset - MOVED)[border[sheet[border]], :2]
    rim = rim[np.abs(rim[:, 0]) < 29]  # not along the strip's own sides
    on_grid = (np.abs(rim / 10 - (rim / 10).round()) < 1e-3).all(1)
    assert len(rim) > 10
    assert on_grid.mean() < 0.2


def test_a_mask_is_cut_along_the_meshs_own_edges_and_must_hold_the_landmarks():
    source = made_up()
    height, chin = source.mean[:, 1], source.mean[source.landmarks[8], 1]
    keep = height > chin - 5

    def cut(source, crop):
        return imported_model._part(source, source.landmarks, 0.02, crop, None)

    part = cut(replace(source, keep=keep), True)
    assert len(part.faces) == keep[source.faces].all(1).sum()
    assert set(np.unique(part.operator.data)) == {1.0}
    whole = cut(replace(source, keep=keep), False)
    assert len(whole.faces) == len(source.faces)
    higher = replace(source, keep=height > chin + 1)
    with pytest.raises(ImportModelError, match="the crop leaves out landmark 9 "):
        cut(higher, True)


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A square of 2 by 2 about 0 in n by n squares, halved alike left and right."""
    x, y = np.meshgrid(np.linspace(-1, 1, n + 1), np.linspace(-1, 1, n + 1))
    first, faces = np.arange((n + 1) ** 2).reshape(n + 1, n + 1), []
    for r in range(n):
        for c in range(n):
            p, q, s, t = first[r, c], first[r, c + 1], first[r + 1, c], first[r + 1, c + 1]
            faces += [[p, q, t], [p, t, s]] if c < n // 2 else [[p, q, s], [q, t, s]]
    return np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1), np.array(faces)


def area(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)[:, 2] / 2


@pytest.mark.parametrize("level", [0.33, 0.5, 0.512, 0.77])
def test_a_cut_ends_on_the_line_without_slivers_and_bends_nothing(level):
    points, faces = grid(8)
    part = mesh_cut.cut_at_zero(faces, points[:, 1] - level, np.array([40]))
    cut = part.apply(points)
    assert cut[:, 1].max() == pytest.approx(level, abs=1e-12)
    assert area(cut, part.faces).sum() == pytest.approx(2 * (1 + level), abs=0.02)
    assert area(cut, part.faces).min() > 0.1 * area(points, faces).min()
    basis = np.stack([points**2, points + 1])
    weights = np.array([0.3, -2.0])
    bent = points + np.einsum("k,kvc->vc", weights, basis)
    together = cut + np.einsum("k,kvc->vc", weights, part.apply(basis))
    np.testing.assert_allclose(part.apply(bent), together, atol=1e-12)


def test_a_symmetric_mesh_is_cut_symmetrically():
    points, faces = grid(8)
    middle = np.flatnonzero(points[:, 0] == 0)
    part = mesh_cut.cut_at_zero(faces, points[:, 1] + points[:, 0] ** 2 - 0.4, middle)
    cut = part.apply(points)
    known = np.full(len(cut), -1)
    mirror, exact = mesh_cut.find_mirror(cut, part.faces, known)
    assert exact
    np.testing.assert_allclose(cut[mirror] * [-1, 1, 1], cut, atol=1e-9)


def test_creases_and_mirrors_follow_the_cut():
    points, faces = grid(4)
    part = mesh_cut.keep_vertices(faces, points[:, 1] < 0.1)
    creases = np.array([[0, 1], [3, 4], [23, 24]])
    assert part.edges(creases).tolist() == [[0, 1], [3, 4]]
    mirror = np.arange(25).reshape(5, 5)[:, ::-1].ravel()
    assert part.renumber(mirror).tolist() == mirror[:15].tolist()
    assert part.renumber(np.full(25, -1)).tolist() == [-1] * 15


# Landmarks --------------------------------------------------------------------------------------


@pytest.fixture
def fresh_habits():
    """What is known of the detector is forgotten before the test, and after it."""
    imported_landmarks.habits.cache_clear()
    yield
    imported_landmarks.habits.cache_clear()


@pytest.fixture
def a_detector():
    try:
        choose_detector(None, allow_download=False)
    except DetectionError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("a_detector")
def test_the_detectors_points_are_cast_onto_the_face(monkeypatch):
    monkeypatch.setattr(imported_landmarks, "YAWS", (0,))
    source = made_up()
    places = imported_landmarks.marked(source.mean, torch.as_tensor(source.faces), None)
    away = distances(places, source.mean[source.landmarks])
    for group, most in (("nose", 4), ("eyes", 8), ("mouth", 5)):
        assert away[slice(*GROUPS[group])].mean() < most, (group, away[slice(*GROUPS[group])])
    np.testing.assert_allclose(places[36] + places[45] * [1, -1, -1], 0, atol=1)  # both alike


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_habits", "a_detector")
def test_a_face_without_landmarks_is_given_them():
    source = made_up()
    found = imported_landmarks.find_landmarks(source.mean, source.faces)
    away = distances(source.mean[found], source.mean[source.landmarks])
    for group, (first, last) in GROUPS.items():
        assert away[first:last].mean() < 1.5, (group, away[first:last].mean())
    assert away[:17].mean() < 1
    assert not (shipped().regions["eyeballs"] > 0.5)[order()[found]].any()


@pytest.mark.usefixtures("fresh_habits")
@pytest.mark.parametrize("plain", [True, False])
def test_what_the_detector_gets_wrong_on_the_shipped_face_is_taken_off(monkeypatch, plain):
    habit = np.random.default_rng(3).normal(0, 8, (68, 3)) * [0.5, 1, 0.3]
    source, skins = made_up(), []

    def marked(mean, faces, colours):
        skins.append(colours)
        same = len(mean) != len(source.mean)
        return mean[laid_on.shipped_face()[0].landmarks if same else source.landmarks] + habit

    monkeypatch.setattr(imported_landmarks, "marked", marked)
    colours = None if plain else np.full(source.mean.shape, 0.5)
    found = imported_landmarks.find_landmarks(source.mean, source.faces, colours)
    away = distances(source.mean[found], source.mean[source.landmarks])
    assert away.mean() < 0.5
    assert [skin is None for skin in skins] == [plain, plain]  # of one kind, or no habit is shared


def test_the_jaw_is_found_without_a_detector_where_all_other_points_are_given(monkeypatch):
    monkeypatch.setattr(imported_landmarks, "marked", None)
    source = made_up()
    given = np.r_[np.full(17, -1), source.landmarks[17:]]
    tensors, metadata = finish(replace(source, landmarks=given), crop=False)
    np.testing.assert_array_equal(tensors["landmarks"][17:], source.landmarks[17:])
    jaw = source.mean[tensors["landmarks"][:17]]
    assert distances(jaw, source.mean[source.landmarks[:17]]).mean() < 1
    assert "17 of the 68 carried over" in metadata["notes"]


def test_rays_meet_the_mesh_where_its_points_are_seen():
    source = made_up()
    mean, faces = source.mean, torch.as_tensor(source.faces)
    nose = source.landmarks[30]
    for yaw in (-30, 0, 30):
        view = mesh_views.MeshView(mean, faces, yaw)
        around = (source.faces == nose).any(1)
        height, width = np.nonzero(around[view.triangle] & (view.triangle >= 0))
        spot = np.array([[width.mean() + 0.5, height.mean() + 0.5]])
        assert np.linalg.norm(view.surface_at(spot)[0] - mean[nose]) < 3
    away = view.surface_at(np.array([[2.0, 2.0]]))  # beside the face: its nearest edge
    assert np.isfinite(away).all()


def test_a_mesh_without_a_face_is_said_to_be_none(monkeypatch):
    def none(picture):
        raise DetectionError("picture: no face found in 800 x 800 pixels")

    monkeypatch.setattr(imported_landmarks, "detect", none)
    source = made_up()
    with pytest.raises(ImportModelError, match=r"no face is found .* --landmarks FILE"):
        imported_landmarks.find_landmarks(source.mean, source.faces)


def test_landmarks_are_read_from_text_and_from_json(tmp_path):
    numbers = list(range(100, 168))
    (tmp_path / "a.txt").write_text(" ".join(map(str, numbers)))
    (tmp_path / "b.txt").write_text(",\n".join(map(str, numbers)))
    (tmp_path / "c.json").write_text(json.dumps(numbers))
    for path in tmp_path.iterdir():
        assert imported_landmarks.read_landmarks(path, 200).tolist() == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "expected 68 numbers, got 3"),
        ("one two", "expected 68 whole numbers"),
        (" ".join(["1.5"] * 68), "expected 68 whole numbers"),
        (" ".join(["200"] * 68), "names vertices 200 to 200, but the source's are 0 to 199"),
        (" ".join(["-1"] * 68), "names vertices -1 to -1, but"),
        ("", "expected 68 numbers, got 0"),
    ],
)
def test_a_wrong_list_of_landmarks_is_refused(tmp_path, text, message):
    path = tmp_path / "points.txt"
    path.write_text(text)
    for file, what in ((path, message), (tmp_path / "none.txt", "cannot be read")):
        with pytest.raises(ImportModelError, match=what):
            imported_landmarks.read_landmarks(file, 200)


def test_a_file_of_landmarks_takes_the_place_of_the_sources(tmp_path):
    source = made_up()
    path, other = tmp_path / "points.json", source.landmarks.copy()
    beside = source.faces[(source.faces == other[30]).any(1)][0]
    other[30] = np.setdiff1d(beside, other)[0]
    path.write_text(json.dumps(other.tolist()))
    notes = []
    points, _ = imported_model._landmarks(source, False, path, notes)
    np.testing.assert_array_equal(points, other)
    assert notes == ["landmarks: from a file of vertex numbers"]


def test_a_landmark_on_a_wrong_vertex_is_refused():
    source = made_up()
    points = source.landmarks.copy()
    points[51] = points[8]  # the lip on the chin
    with pytest.raises(ImportModelError, match=r"landmark 52 .* counted from 0"):
        finish(replace(source, landmarks=points), crop=False)


# What is no face --------------------------------------------------------------------------------


def changed(**changes) -> SourceModel:
    source = made_up()
    return replace(source, **{name: change(source) for name, change in changes.items()})


WRONG = {
    "0.2.* mm across, expected 100 to 1000: are its units": dict(mean=lambda s: s.mean / 1000),
    r"outer eye corners are 4\d\.\d+ mm apart": dict(mean=lambda s: s.mean / 2),
    "not upright and looking along": dict(mean=lambda s: s.mean[:, [0, 2, 1]]),
    "its eyes run to the viewer's right with cosine -1.00": dict(
        mean=lambda s: s.mean * [-1, 1, -1]
    ),
    "wound clockwise": dict(faces=lambda s: s.faces[:, ::-1]),
    "mean holds numbers that are not finite": dict(mean=lambda s: s.mean * np.nan),
    "identity: expected .* got": dict(identity=lambda s: s.identity[:, :-1]),
    "there are no identity modes": dict(identity=lambda s: s.identity[:0]),
    "faces names vertices .* counted from 1": dict(faces=lambda s: s.faces + 1),
    "faces holds float64, expected whole": dict(faces=lambda s: s.faces * 1.0),
    "landmarks: expected": dict(landmarks=lambda s: s.landmarks[:51]),
    "control 'a': expected": dict(controls=lambda s: {"a": np.ones(5)}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_face_in_millimetres_is_refused_in_one_line(message):
    with pytest.raises(ImportModelError, match=message) as caught:
        finish(changed(**WRONG[message]), crop=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("identity", "expression", "named", "message"),
    [
        (1000.0, 1.0, True, "unit of identity mode 1 moves a vertex by .* expected 0.01 to 30"),
        (0.001, 1.0, True, "unit of identity mode 1 moves a vertex by .* scaled by its standard"),
        (1.0, 0.0, True, "unit of expression mode 1 moves"),
        (1.0, 1.0, False, "unit of expression mode 1 moves a vertex by 38"),
        (1.0, 1.0, True, None),  # a full action may move further than a standard deviation
        (1.0, 0.7, False, None),
    ],
)
def test_a_unit_of_a_coefficient_moves_plausible_millimetres(identity, expression, named, message):
    source = made_up()
    bases = identity * source.identity, expression * source.expression
    refused = pytest.raises(ImportModelError, match=message) if message else nullcontext()
    with refused:
        check_motion(*bases, named)


# The script's main ------------------------------------------------------------------------------


def test_run_writes_the_file_and_prints_what_it_did(tmp_path, capsys):
    out = tmp_path / "new folder" / "m.safetensors"
    run(made_up, out, crop=False, bind=False)
    said = capsys.readouterr().out
    assert f"{len(made_up().mean)} vertices, 6 identity, 2 expression, 25 albedo modes" in said
    assert "note: albedo: the CC0 tones" in said
    assert [p.name for p in out.parent.iterdir()] == ["m.safetensors"]


def test_a_refusal_is_one_line_and_exit_2_and_leaves_what_was_there(tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    out.write_text("an earlier one")
    for read, where, message in (
        (lambda: changed(mean=lambda s: s.mean / 1000), out, "are its units"),
        (made_up, tmp_path / "m.npz", "ends in .safetensors"),
        (made_up, out / "below.safetensors", "cannot be written"),
    ):
        with pytest.raises(typer.Exit) as caught:
            run(read, where, crop=False)
        assert caught.value.exit_code == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    with pytest.raises(typer.Exit):
        run(lambda: changed(mean=lambda s: s.mean / 1000), tmp_path / "new" / "m.safetensors")
    assert out.read_text() == "an earlier one"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_binding_that_fails_is_one_line_and_exit_2(tmp_path, capsys, monkeypatch):
    def fail(path, count):
        raise FaceMeshError("face_mesh.safetensors: not a readable safetensors file")

    monkeypatch.setattr(imported_model, "bind_file", fail)
    with pytest.raises(typer.Exit) as stopped:
        run(made_up, tmp_path / "m.safetensors", crop=False)
    assert stopped.value.exit_code == 2
    said = capsys.readouterr().err
    assert "face_mesh.safetensors: not a readable" in said
    assert said.count("\n") == 1


def test_a_file_that_would_not_load_is_not_written(tmp_path):
    tensors, metadata = finished()
    out = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match="lacks uv"):
        write_model(out, {k: t for k, t in tensors.items() if k != "uv"}, metadata)
    assert list(tmp_path.iterdir()) == []


def test_pieces_of_a_mesh_are_told_apart():
    faces = np.array([[0, 1, 2], [2, 3, 4], [5, 6, 7]])
    piece = mesh_views.pieces(faces, 9)
    assert len(set(piece[:5])) == 1
    assert len(set(piece)) == 3
