"""The face model that ships: what it is made of, and Eq. 1 and 2."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from small_faces import model

from facerecon_lib.face.mesh import boundary_edges, half_edges, vertex_normals
from facerecon_lib.face.model_file import ModelError
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.face.subdivision import loop_subdivide
from facerecon_lib.files.weights import shipped_file

FLIP = torch.tensor([-1.0, 1.0, 1.0])


def test_the_shipped_file_is_small_and_says_where_it_comes_from():
    assert shipped_file("face_model.safetensors").stat().st_size <= 8e6
    facts = model().metadata
    assert facts["licence"] == "CC0-1.0"
    assert "MakeHuman" in facts["provenance"]
    assert facts["units"] == "mm"


def test_the_mean_face_has_the_size_of_an_adult_face():
    low, high = model().mean.amin(0), model().mean.amax(0)
    width, height, depth = (high - low).tolist()
    assert 120 < width < 170
    assert 160 < height < 230
    assert 90 < depth < 160


def test_zero_coefficients_give_the_mean():
    m = model()
    shape = m.shape(torch.zeros(2, 80), torch.zeros(2, 43))
    assert torch.equal(shape, m.mean.expand(2, -1, -1))
    assert torch.equal(m.albedo(torch.zeros(1, 25))[0], m.albedo_mean)


@given(st.integers(0, 2**31), st.floats(-2, 2), st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_shape_is_affine_in_the_coefficients(seed, a, b):
    m = model()
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 1, 80, generator=generator)
    left = m.shape(a * x + b * y) - m.mean
    right = a * (m.shape(x) - m.mean) + b * (m.shape(y) - m.mean)
    torch.testing.assert_close(left, right, atol=2e-3, rtol=1e-4)


def test_a_batch_gives_what_each_face_gives_alone():
    m = model()
    identity, expression, albedo = m.random(3, torch.Generator().manual_seed(0))
    together = m.shape(identity, expression)
    for i in range(3):
        alone = m.shape(identity[i : i + 1], expression[i : i + 1])[0]
        torch.testing.assert_close(together[i], alone, atol=1e-3, rtol=0)
    torch.testing.assert_close(m.albedo(albedo)[1], m.albedo(albedo[1:2])[0], atol=1e-5, rtol=0)


def test_wrong_numbers_of_coefficients_are_named():
    with pytest.raises(ValueError, match=r"identity: expected \(batch, 80\).*\(1, 79\)"):
        model().shape(torch.zeros(1, 79))
    with pytest.raises(ValueError, match="albedo: expected"):
        model().albedo(torch.zeros(25))


def test_identity_modes_fall_in_size_and_each_has_a_positive_largest_entry():
    basis = model().identity_basis.flatten(1)
    size = basis.norm(dim=1)
    assert (size[1:] <= size[:-1] * 1.001).all()
    largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_one_standard_deviation_of_identity_moves_a_face_by_millimetres():
    m = model()
    identity, _, _ = m.random(50, torch.Generator().manual_seed(1))
    moved = (m.shape(identity) - m.mean).norm(dim=-1).mean()
    assert 2.0 < moved < 9.0


@pytest.mark.parametrize("subdivision", [0, 1])
def test_mirroring_twice_is_doing_nothing_and_the_mean_is_its_own_mirror(subdivision):
    m = model(subdivision)
    assert torch.equal(m.mirror[m.mirror], torch.arange(len(m.mean)))
    torch.testing.assert_close(m.mean[m.mirror] * FLIP, m.mean, atol=2e-3, rtol=0)


def test_landmarks_mirror_each_other():
    m = model()
    pairs = [(0, 16), (7, 9), (17, 26), (21, 22), (31, 35), (36, 45), (39, 42), (48, 54), (60, 64)]
    for left, right in pairs:
        assert m.mirror[m.landmarks[left]] == m.landmarks[right]
    for middle in (8, 27, 30, 33, 51, 57, 62, 66):
        assert abs(m.mean[m.landmarks[middle], 0]) < 0.01


def test_landmarks_stand_where_anatomy_has_them():
    """iBUG counts from the viewer's left, and from top to bottom along the nose and mouth."""
    p = model().mean[model().landmarks]
    x, y, z = p.unbind(-1)
    assert (x[:8] < 0).all()
    assert (x[9:17] > 0).all()
    assert (x[17:27].diff() > 0).all()
    assert x[36] < x[39] < x[42] < x[45]
    assert (y[27:31].diff() < 0).all()
    assert y[17:27].min() > y[36:48].max()
    assert y[36:48].min() > y[31:36].max() > y[48:68].max() > y[8]
    assert z[30] == z.max()
    assert 80 < (p[45] - p[36]).norm() < 105
    assert (y[[37, 38]] > y[[41, 40]]).all()


@pytest.mark.parametrize("subdivision", [0, 1])
def test_landmarks_are_the_same_vertices_at_every_density(subdivision):
    assert torch.equal(model(subdivision).landmarks, model(0).landmarks)
    moved = model(subdivision).mean[model().landmarks] - model().mean[model().landmarks]
    assert moved.norm(dim=-1).max() < 1.5


def test_bands_of_the_jaw_begin_at_the_jaw_points_and_lie_on_the_skin():
    m = model()
    assert torch.equal(m.contour_bands[:, 0], m.landmarks[:17])
    inner = m.regions["mouth_interior"] + m.regions["eyeballs"]
    assert inner[m.contour_bands].max() == 0


def test_subdivision_makes_four_triangles_of_one_and_keeps_the_outline():
    coarse, fine = model(0), model(1)
    assert len(fine.faces) == 4 * len(coarse.faces)
    assert 11_000 <= len(fine.mean) <= 17_000
    assert len(fine.identity_basis[0]) == len(fine.mean) == len(fine.albedo_mean)
    outline = boundary_edges(coarse.faces).unique()
    moved = (fine.mean[outline] - coarse.mean[outline]).norm(dim=-1)
    assert moved.median() < 0.5
    assert moved.max() < 4.0  # corners of the rows of teeth are rounded off


def test_subdividing_the_bases_is_subdividing_the_deformed_mesh():
    coarse, fine = model(0), model(1)
    identity, expression, _ = coarse.random(1, torch.Generator().manual_seed(2))
    path = shipped_file("face_model.safetensors")
    with safe_open(path, "pt") as file:
        creases = file.get_tensor("creases").long()
    step = loop_subdivide(coarse.faces, len(coarse.mean), creases)
    expected = step.apply(coarse.shape(identity, expression))
    torch.testing.assert_close(fine.shape(identity, expression), expected, atol=2e-3, rtol=0)


def test_the_mesh_has_no_edge_of_three_triangles_and_no_degenerate_triangle():
    m = model()
    assert half_edges(m.faces)[2].max() == 2
    a, b, c = m.mean[m.faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2
    assert area.min() > 1e-3


def test_skin_looks_outwards():
    m = model()
    normals = vertex_normals(m.mean[None], m.faces)[0]
    cheeks, forehead = m.regions["cheeks"] > 0.5, m.regions["forehead"] > 0.5
    assert cheeks.sum() > 50
    assert (normals[cheeks, 2] > 0).all()
    assert (normals[forehead & (m.mean[:, 0].abs() < 30), 2] > 0.3).all()


def test_uv_is_in_the_unit_square_and_regions_are_in_zero_to_one():
    m = model(1)
    assert m.uv.min() >= 0
    assert m.uv.max() <= 1
    for name, mask in m.regions.items():
        assert mask.shape == (len(m.mean),)
        assert 0 <= mask.min() <= mask.max() <= 1, name
        assert mask.max() > 0.5, name


def test_regions_are_where_their_names_say():
    m = model()

    def middle(name):
        weight = m.regions[name][:, None]
        return (m.mean * weight).sum(0) / weight.sum()

    assert middle("forehead")[1] > middle("brows")[1] > middle("eyeballs")[1]
    assert middle("eyeballs")[1] > middle("nose")[1] > middle("lips")[1] > middle("jaw")[1]


def test_controls_are_exact_and_named_for_their_side():
    m = model()
    assert len(m.controls) == 43
    left = m.shape(torch.zeros(1, 80), m.expression_from_controls({"mouthSmileLeft": 1.0}))
    moved = (left[0] - m.mean).norm(dim=-1)
    # the person's left is on the viewer's right
    assert moved[m.mean[:, 0] > 5].mean() > 3 * moved[m.mean[:, 0] < -5].mean()
    back = m.actions(m.expression_from_controls({"jawOpen": 0.7, "eyeBlinkLeft": 0.3}))[0]
    names = list(m.controls)
    expected = torch.zeros(43)
    expected[names.index("jawOpen")], expected[names.index("eyeBlinkLeft")] = 0.7, 0.3
    torch.testing.assert_close(back, expected, atol=2e-3, rtol=0)
    with pytest.raises(ModelError, match="no control 'jawOpeN'"):
        m.expression_from_controls({"jawOpeN": 1.0})


def test_actions_that_a_model_does_not_name_are_its_modes():
    m, actions = model(), {"jawOpen": 0.5, "mouthSmile": 1.0}

    def played(**other):
        return replace(m, **other).expression_from_controls(actions, stand_in=True)

    torch.testing.assert_close(played(), m.expression_from_controls(actions))
    assert played(controls={})[0, :3].tolist() == [1.0, 2.0, 0.0]
    jaw_alone = played(controls={"jawOpen": m.controls["jawOpen"]})
    both = jaw_alone - m.expression_from_controls({"jawOpen": 0.5})
    torch.testing.assert_close(both[0, :3], torch.tensor([0.0, 2.0, 0.0]))
    assert played(controls={}, expression_basis=m.expression_basis[:0]).shape == (1, 0)


def test_an_action_named_without_its_side_is_that_of_both():
    m = model(0)
    both = m.expression_from_controls({"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5})
    torch.testing.assert_close(m.expression_from_controls({"mouthSmile": 0.5}), both)


def test_the_jaw_opens_the_mouth_and_a_blink_closes_the_eyes():
    m = model()

    def gap(points, above, below):
        return (points[above, 1] - points[below, 1]).mean()

    rest = m.mean[m.landmarks]
    opened = m.shape(torch.zeros(1, 80), m.expression_from_controls({"jawOpen": 1.0}))
    opened = m.landmark_points(opened)[0]
    assert gap(opened, [62], [66]) - gap(rest, [62], [66]) > 15
    shut = m.expression_from_controls({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    shut = m.landmark_points(m.shape(torch.zeros(1, 80), shut))[0]
    lids = ([37, 38, 43, 44], [41, 40, 47, 46])
    assert gap(shut, *lids) < 0.25 * gap(rest, *lids)


def test_the_monk_basis_reaches_dark_skin_and_the_light_basis_does_not():
    skin = model().regions["skin"] > 0.8
    lightness = {}
    for name in ("monk", "light"):
        m = model(albedo=name)
        samples = m.albedo(m.albedo_samples)
        lightness[name] = samples[:, skin].mean((1, 2))
    assert lightness["monk"].min() < 0.32
    assert lightness["light"].min() > 0.5
    assert lightness["monk"].max() > 0.65


def test_random_skins_are_colours_and_skin_coloured():
    m = model()
    _, _, albedo = m.random(100, torch.Generator().manual_seed(3))
    colours = m.albedo(albedo)
    skin = colours[:, m.regions["skin"] > 0.8].mean(1)
    red, green, blue = skin.unbind(-1)
    assert (red > green - 0.02).all()
    assert (green > blue - 0.04).all()
    assert ((colours >= -0.1) & (colours <= 1.15)).float().mean() > 0.99


def test_the_iris_is_at_least_eight_vertices_wide():
    m = model()
    eye = (m.regions["eyeballs"] > 0.5) & (m.mean[:, 0] > 0)
    points, colours = m.mean[eye], m.albedo_mean[eye]
    centre = points[:, :2].mean(0)
    dark = colours.mean(-1) < 0.5
    row = points[dark & ((points[:, 1] - centre[1]).abs() < 0.3)]
    assert len(row) >= 8


def test_the_same_seed_draws_the_same_faces():
    a = model().random(4, torch.Generator().manual_seed(9))
    b = model().random(4, torch.Generator().manual_seed(9))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_landmark_model_gives_the_landmarks_of_the_whole_model():
    m = model(1)
    few = m.landmark_model()
    identity, expression, _ = m.random(2, torch.Generator().manual_seed(4))
    whole, part = m.shape(identity, expression), few.shape(identity, expression)
    expected, got = m.landmark_points(whole), few.landmark_points(part)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)
    bands = whole[:, m.contour_bands.reshape(-1)], part[:, few.contour_bands.reshape(-1)]
    torch.testing.assert_close(*bands, atol=1e-3, rtol=0)


def test_moving_to_a_device_moves_everything():
    moved = model().to("meta")
    assert moved.device.type == "meta"
    values = [*vars(moved).values(), *moved.regions.values(), *moved.controls.values()]
    assert all(x.device.type == "meta" for x in values if isinstance(x, torch.Tensor))


def test_bad_files_are_named_in_one_line(tmp_path):
    file, shipped = tmp_path / "x.safetensors", shipped_file("face_model.safetensors")
    with pytest.raises(ModelError, match="no such face model"):
        MorphableModel.load(file)
    for content in (b"not a model", shipped.read_bytes()[:100_000]):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="not a readable safetensors file"):
            MorphableModel.load(file)
    save_file({"weights": torch.zeros(3)}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="no face model of this project"):
        MorphableModel.load(file)


def damaged(tmp_path, change) -> MorphableModel:
    """The shipped model after `change(tensors, metadata)`, written and read again."""
    with safe_open(shipped_file("face_model.safetensors"), "pt") as file:
        data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    change(data, metadata)
    path = tmp_path / "damaged.safetensors"
    save_file(data, path, metadata)
    return MorphableModel.load(path, subdivision=0)


DAMAGE = {
    "lacks mirror": lambda d, m: d.pop("mirror"),
    "lacks albedo_samples_light": lambda d, m: d.pop("albedo_samples_light"),
    r"mirror: expected \(\d+,\), got \(5,\)": lambda d, m: d.update(mirror=torch.arange(5)),
    r"faces: expected \(face, 3\), got \(5, 4\)": lambda d, m: d.update(
        faces=torch.ones(5, 4).int()
    ),
    r"landmarks: expected \(68,\), got \(60,\)": lambda d, m: d.update(landmarks=torch.arange(60)),
    "faces holds torch.float32": lambda d, m: d.update(faces=d["faces"].float()),
    "faces names vertices outside 0 to": lambda d, m: d.update(faces=d["faces"] + 1000),
    "mean holds numbers that are not finite": lambda d, m: d["mean"].fill_(float("nan")),
    "its metadata lacks the list of regions": lambda d, m: m.update(regions="[oops"),
    r"controls: expected \(2, 43\), got \(43, 43\)": lambda d, m: m.update(controls='["a", "b"]'),
    "fewer vertices than the mesh": lambda d, m: d.update(albedo_mean_monk=torch.zeros(100, 3)),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_model_is_refused_in_one_line_that_says_what_is_wrong(tmp_path, message):
    with pytest.raises(ModelError, match=message) as caught:
        damaged(tmp_path, DAMAGE[message])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("damaged.safetensors: ")


def test_a_model_without_named_controls_works(tmp_path):
    def strip(data, metadata):
        data["controls"] = torch.zeros(0, 43)
        metadata["controls"] = "[]"

    bare = damaged(tmp_path, strip)
    assert bare.actions(torch.randn(2, 43)).shape == (2, 0)
    _, expression, _ = bare.random(3, torch.Generator().manual_seed(0))
    assert expression.shape == (3, 43)
    assert expression.std() > 0.5


def test_unknown_bases_and_densities_are_refused():
    with pytest.raises(ModelError, match="no albedo basis 'blue'; it has light, monk"):
        MorphableModel.load(albedo="blue")
    with pytest.raises(ModelError, match="subdivision: expected 0, 1, 2 or 3"):
        MorphableModel.load(subdivision=-1)


def test_a_file_says_how_it_is_loaded_unless_asked_otherwise(tmp_path):
    def own_defaults(data, metadata):
        metadata |= {"default_subdivision": "0", "default_albedo": "light"}

    damaged(tmp_path, own_defaults)
    path = tmp_path / "damaged.safetensors"
    loaded, asked = MorphableModel.load(path), MorphableModel.load(path, 1, "monk")
    assert (loaded.metadata["subdivision"], loaded.metadata["albedo"]) == ("0", "light")
    assert (asked.metadata["subdivision"], asked.metadata["albedo"]) == ("1", "monk")
    shipped = MorphableModel.load()
    assert (shipped.metadata["subdivision"], shipped.metadata["albedo"]) == ("1", "monk")
    with pytest.raises(ModelError, match="its default_subdivision is 'many', not 0 to 3"):
        damaged(tmp_path, lambda data, metadata: metadata.update(default_subdivision="many"))


def test_the_environment_names_a_default_model(tmp_path, monkeypatch):
    damaged(tmp_path, lambda data, metadata: metadata.update(name="mine"))
    monkeypatch.setenv("FACERECON_MODEL", str(tmp_path / "damaged.safetensors"))
    assert MorphableModel.load(subdivision=0).metadata["name"] == "mine"
    assert MorphableModel.load(shipped_file("face_model.safetensors"), 0).metadata["name"] != "mine"
    monkeypatch.setenv("FACERECON_MODEL", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match=r"nowhere: no such .* \$FACERECON_MODEL names"):
        MorphableModel.load()


def test_a_mirror_that_is_no_symmetry_is_found_anew_on_the_finer_mesh(tmp_path):
    def shaken(data, metadata):
        data["mirror"] = data["mirror"].clone()
        data["mirror"][:2] = data["mirror"][2]  # no permutation any more

    damaged(tmp_path, shaken)
    with pytest.raises(ModelError, match=r"damaged\.safetensors: mirror: expected a permutation"):
        MorphableModel.load(tmp_path / "damaged.safetensors", subdivision=1)

    damaged(tmp_path, lambda data, m: (shaken(data, m), m.update(mirror="nearest")))
    loaded = MorphableModel.load(tmp_path / "damaged.safetensors", subdivision=1)
    away = (loaded.mean[loaded.mirror] * FLIP - loaded.mean).norm(dim=-1)
    assert len(loaded.mirror) == len(loaded.mean)
    assert away.max() < 0.01


def test_a_model_without_expressions_works(tmp_path):
    def still(data, metadata):
        data["expression_basis"] = data["expression_basis"][:0].contiguous()
        data["controls"], metadata["controls"] = torch.zeros(0, 0), "[]"

    m = damaged(tmp_path, still)
    identity, expression, _ = m.random(2, torch.Generator().manual_seed(0))
    assert expression.shape == (2, 0)
    torch.testing.assert_close(m.shape(identity, expression), m.shape(identity))
    assert m.actions(expression).shape == (2, 0)
