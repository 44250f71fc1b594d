"""FLAME files of the right layout and made-up content: what comes out is what went in.

The content is the shipped face with a made-up skeleton, so that the truth is known in millimetres.
"""

import json
import os
import pickle

import import_flame
import numpy as np
import pytest
from face_models import flame
from face_models.tables import ImportModelError
from made_up_models import made_up_flame
from made_up_models.made_up_flame import truth
from model_fits import fits_its_own_samples
from script_runs import run_script

from facerecon_lib.face.morphable_model import MorphableModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shipped):
    """generic_model.pkl and points.txt."""
    path = tmp_path_factory.mktemp("flame")
    made_up_flame.write(path / "generic_model.pkl")
    (path / "points.txt").write_text(" ".join(map(str, shipped.landmarks.tolist())))
    return path


@pytest.fixture(scope="module")
def source(folder):
    return flame.read_flame(folder / "generic_model.pkl", landmarks=folder / "points.txt")


@pytest.fixture(scope="module")
def imported(folder):
    """What the script writes, and what it prints."""
    out = folder / "flame.safetensors"
    options = ("--no-bind", "--no-crop", "--modes", 40, "--landmarks", folder / "points.txt")
    model = folder / "generic_model.pkl"
    result = run_script(import_flame.main, model, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return MorphableModel.load(out, subdivision=0), result.output


def pickled(tmp_path, content: object, name: str = "generic_model.pkl"):
    """A file of that content, pickled unless it is bytes."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def refusal(tmp_path, content: bytes | dict, *options):
    """The one line that the script says of a file."""
    out, path = tmp_path / "out.safetensors", pickled(tmp_path, content)
    result = run_script(import_flame.main, path, "--out", out, *options)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert list(tmp_path.glob("*out*")) == []
    assert result.output.strip().count("\n") == 0
    return result.output


# Shape -----------------------------------------------------------------------------------------


def test_metres_become_millimetres_where_the_shipped_model_is(imported, shipped):
    model, _ = imported
    away = model.mean - shipped.mean
    assert (away - away.mean(0)).abs().max() < 1e-3
    assert (model.faces == shipped.faces).all()
    assert (model.landmarks == shipped.landmarks).all()


def test_300_identity_and_100_expression_directions_are_told_apart(source, imported, shipped):
    assert source.identity.shape == (300, len(shipped.mean), 3)
    assert source.expression.shape == (101, len(shipped.mean), 3)
    directions = 1000 * np.moveaxis(truth()["shapedirs"], 2, 0)
    np.testing.assert_allclose(source.identity, directions[:300])
    np.testing.assert_allclose(source.expression[:100], directions[300:])
    model, _ = imported
    assert (model.identity_basis - shipped.identity_basis[:40]).abs().max() < 0.02
    assert (model.expression_basis[:40] - shipped.expression_basis[:40]).abs().max() < 0.02


def test_unit_coefficients_move_the_face_by_plausible_millimetres(source):
    for basis in (source.identity, source.expression):
        moves = np.linalg.norm(basis, axis=2).max(1)
        assert 1 < moves.max() < 30
        assert moves.min() > 0.01


def test_chumpys_objects_and_plain_arrays_of_any_protocol_give_the_same(source, tmp_path):
    for protocol in (4, 5):
        other = flame.read_flame(pickled(tmp_path, pickle.dumps(truth(), protocol)))
        for name in ("mean", "identity", "expression", "faces"):
            np.testing.assert_array_equal(getattr(source, name), getattr(other, name))


def test_fewer_modes_on_request_keep_the_jaw(source, folder):
    few = flame.read_flame(folder / "generic_model.pkl", modes=10)
    assert few.identity.shape[0] == 10
    assert few.expression.shape[0] == 11
    np.testing.assert_array_equal(few.expression[:10], source.expression[:10])
    np.testing.assert_array_equal(few.expression[10], source.expression[100])
    assert few.controls["jawOpen"][10] == source.controls["jawOpen"][100] == 2


# The jaw ---------------------------------------------------------------------------------------


def test_the_jaws_mode_is_the_rotations_tangent_scaled_to_its_arc(source):
    arm = 1000 * (truth()["v_template"] - truth()["J"][2])
    tangent = np.cross([1.0, 0, 0], arm) * truth()["weights"][:, 2:3]
    np.testing.assert_allclose(source.expression[100], np.sin(0.2) * tangent, atol=1e-9)


def test_jaw_open_opens_the_mouth_and_leaves_eyes_and_forehead(imported, shipped):
    model, _ = imported
    opened = model.expression_from_controls({"jawOpen": 1.0})
    move = (model.shape(opened.new_zeros(1, 40), opened)[0] - model.mean).detach()
    chin, upper, lower = model.landmarks[[8, 62, 66]]
    assert -50 < move[chin, 1] < -15
    assert move[lower, 1] < -10
    assert move[upper].norm() < 2
    for name, most in (("eyeballs", 1e-6), ("forehead", 0.3)):
        still = shipped.regions[name] > 0.5
        assert still.sum() > 100
        assert move[still].norm(dim=1).max() < most


def test_the_import_says_what_a_linear_jaw_loses(imported, source):
    _, output = imported
    arm = 1000 * (truth()["v_template"] - truth()["J"][2])
    far = np.hypot(arm[:, 1], arm[:, 2]) * truth()["weights"][:, 2]
    for angle, linear in ((0.2, np.sin(0.2)), (0.4, 2 * np.sin(0.2))):
        lost = np.hypot(np.sin(angle) - linear, 1 - np.cos(angle)) * far.max()
        assert f"{lost:.1f} mm" in output
    assert "posedirs left out: " in output


def test_a_model_without_a_jaw_gets_no_mode_of_one_unless_asked(folder, tmp_path):
    path = tmp_path / "flame2023_no_jaw.pkl"
    path.symlink_to(folder / "generic_model.pkl")
    source = flame.read_flame(path)
    assert (source.controls, len(source.expression)) == ({}, 100)
    assert len(flame.read_flame(path, jaw=True).expression) == 101
    assert len(flame.read_flame(folder / "generic_model.pkl", jaw=False).expression) == 100


def test_random_faces_vary_the_expressions_that_have_no_name(imported, generator):
    model, _ = imported
    _, expression, _ = model.random(400, generator)
    assert expression[:, :40].std(0).min() > 0.8
    assert expression[:, 40].min() == 0
    assert 0 < (expression[:, 40] > 0).float().mean() < 0.3


def test_what_hangs_on_the_jaw_turns_with_it_and_its_joint_is_the_regressors(tmp_path):
    weights = np.array([[0, 0.5, 0.3, 0.2, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    hangs = {"weights": weights, "kintree_table": np.array([[-1, 0, 1, 2, 1], range(5)])}
    source = flame.read_flame(pickled(tmp_path, small() | hangs))
    arm = 1000 * (small()["v_template"][0] - small()["v_template"].mean(0))
    expected = 0.5 * np.sin(0.2) * np.array([0, -arm[2], arm[1]])
    np.testing.assert_allclose(source.expression[-1], [expected, *np.zeros((3, 3))], atol=1e-9)


# Landmarks -------------------------------------------------------------------------------------


def embedding(shipped, points):
    """Triangles and weights that lie nearest to the shipped landmarks of these numbers."""
    faces = shipped.faces.numpy()
    triangle = [int(np.flatnonzero((faces == v).any(1))[0]) for v in shipped.landmarks[points]]
    corner = (faces[triangle] == shipped.landmarks[points].numpy()[:, None]) * 0.5 + 0.5 / 3
    return np.array(triangle, np.uint32), corner


def test_flames_static_embedding_of_51_points_leaves_the_jaw_to_be_found(folder, shipped, tmp_path):
    triangle, corner = embedding(shipped, range(17, 68))
    held = made_up_flame.python2({"lmk_face_idx": triangle, "lmk_b_coords": corner}, 0)
    path = pickled(tmp_path, held, "flame_static_embedding.pkl")
    points = flame.read_flame(folder / "generic_model.pkl", landmarks=path).landmarks
    assert (points[:17] == -1).all()
    np.testing.assert_array_equal(points[17:], shipped.landmarks[17:])


def test_decas_embedding_of_68_points_is_read_beside_its_torch_tensors(folder, shipped, tmp_path):
    import torch

    triangle, corner = embedding(shipped, range(68))
    held = {
        "static_lmk_faces_idx": triangle[17:],
        "static_lmk_bary_coords": corner[17:],
        "dynamic_lmk_faces_idx": torch.zeros(79, 17, dtype=torch.long),
        "full_lmk_faces_idx": triangle[None].astype(np.int64),
        "full_lmk_bary_coords": corner[None],
    }
    np.save(tmp_path / "landmark_embedding.npy", held, allow_pickle=True)
    np.savez(tmp_path / "embedding_68.npz", lmk_face_idx=triangle, lmk_b_coords=corner)
    for path in (tmp_path / "landmark_embedding.npy", tmp_path / "embedding_68.npz"):
        points = flame.read_flame(folder / "generic_model.pkl", landmarks=path).landmarks
        np.testing.assert_array_equal(points, shipped.landmarks)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"left_ear": np.arange(3)}, "lacks lmk_face_idx and lmk_b_coords"),
        ({"lmk_face_idx": np.arange(5), "lmk_b_coords": np.ones((5, 3))}, "has 5 points"),
        (
            {"lmk_face_idx": np.full(51, 9975), "lmk_b_coords": np.ones((51, 3))},
            "names triangles outside 0 to 6629",
        ),
        ({"lmk_face_idx": os.system, "lmk_b_coords": 1}, r"refused: it asks for posix\.system"),
    ],
)
def test_another_embedding_is_refused(folder, tmp_path, held, says):
    points = pickled(tmp_path, held, "points.pkl")
    with pytest.raises(ImportModelError, match=says):
        flame.read_flame(folder / "generic_model.pkl", landmarks=points)


# Albedo ----------------------------------------------------------------------------------------

SIDE, TONES = 64, 4


def linear_light(uv):
    """Made-up albedo in linear light at uv: mean (N, 3) and basis (4, N, 3), red first."""
    u, v = uv.T
    mean = np.stack([0.45 + 0.2 * u, 0.3 + 0.1 * v, 0.2 + 0.05 * u * v], 1)
    waves = [np.cos(np.pi * (k + 1) * u) * np.sin(np.pi * v) for k in range(TONES)]
    return mean, 0.02 * np.stack([np.stack([w, 0.7 * w, 0.5 * w], 1) for w in waves])


@pytest.fixture
def textures(shipped):
    """albedoModel2020_FLAME_albedoPart.npz's parts, on the shipped model's uv; blue first."""
    row, column = np.mgrid[:SIDE, :SIDE]
    texel = np.stack([(column + 0.5) / SIDE, 1 - (row + 0.5) / SIDE], -1).reshape(-1, 2)
    mean, basis = linear_light(texel)
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(shipped.uv))
    vt = np.empty((len(shuffled), 2))
    vt[shuffled] = shipped.uv.numpy()
    return {
        "MU": mean[:, ::-1].reshape(SIDE, SIDE, 3),
        "PC": np.moveaxis(basis[:, :, ::-1], 0, 2).reshape(SIDE, SIDE, 3, TONES),
        "specMU": np.full((SIDE, SIDE, 3), 0.5),
        "specPC": np.zeros((SIDE, SIDE, 3, TONES)),
        "vt": vt,
        "ft": shuffled[shipped.faces.numpy()].astype(np.uint32),
    }


@np.vectorize
def encoded(linear):
    """sRGB by the standard's own words, one number at a time."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def test_the_albedo_is_the_textures_at_the_vertices_from_linear_light_to_srgb(
    folder, shipped, textures, tmp_path
):
    path = tmp_path / "albedoModel2020_FLAME_albedoPart.npz"
    np.savez(path, **textures)
    source = flame.read_flame(folder / "generic_model.pkl", albedo=path)
    uv = shipped.uv.double().numpy().clip(0.5 / SIDE, 1 - 0.5 / SIDE)
    mean, basis = linear_light(uv)
    np.testing.assert_allclose(source.albedo_mean, encoded(mean), atol=1e-5)
    for k in range(TONES):
        slope = (encoded(mean + 0.1 * basis[k]) - encoded(mean - 0.1 * basis[k])) / 0.2
        np.testing.assert_allclose(source.albedo[k], slope, atol=1e-3)
    np.testing.assert_allclose(source.uv, shipped.uv, atol=1e-6)
    assert "AlbedoMM" in source.licence


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def test_other_textures_are_refused(folder, textures, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "some.npz"
    cases = [
        ({"MU": np.zeros(12), "PC": np.zeros((12, 3))}, "lacks vt, ft; give albedoModel2020"),
        ({"mean": textures["MU"], "tex_dir": textures["PC"]}, "lacks MU, PC"),
        (textures | {"ft": textures["ft"][:9]}, "does not lay a texture on the model's 6630"),
        (textures | {"ft": textures["ft"] + 9}, "does not lay a texture"),
        (textures | {"PC": textures["PC"][:9]}, "no images of colours"),
        (textures | {"MU": 255 * textures["MU"]}, "expected linear light"),
        (textures | {"MU": textures["MU"] * np.nan}, "MU holds no finite numbers"),
        (textures | {"MU": np.array(Touches(canary), object)}, "not a readable .npz of arrays"),
    ]
    for held, says in cases:
        np.savez(path, **held)
        with pytest.raises(ImportModelError, match=says):
            flame.read_flame(folder / "generic_model.pkl", albedo=path)
    assert not canary.exists()
    for content in (path.read_bytes()[:-30], b"PK\x03\x04 and then nothing", b""):
        path.write_bytes(content)
        with pytest.raises(ImportModelError, match=r"not a readable \.npz"):
            flame.read_flame(folder / "generic_model.pkl", albedo=path)


# What is no FLAME ------------------------------------------------------------------------------


def small() -> dict:
    """A tetrahedron in FLAME's layout: enough to be refused for something else."""
    return {
        "v_template": np.array([[0.0, 0, 0.1], [0.1, 0, 0], [-0.1, 0, 0], [0, 0.2, 0]]),
        "shapedirs": np.zeros((4, 3, 400)),
        "f": np.array([[0, 1, 3], [0, 3, 2], [0, 2, 1], [1, 2, 3]], np.uint32),
        "J_regressor": np.full((5, 4), 0.25),
        "weights": np.full((4, 5), 0.2),
        "kintree_table": np.array([[-1, 0, 1, 1, 1], range(5)]),
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": np.zeros((4, 24))}, "has 24 joints, FLAME has 5: is it SMPL"),
        ({"shapedirs": np.zeros((4, 3, 10))}, r"shapedirs has shape \(4, 3, 10\), expected"),
        ({"v_template": np.zeros((4, 2))}, "v_template has shape"),
        ({"J_regressor": np.zeros((5, 3))}, "J_regressor has shape"),
        ({"v_template": 1000 * small()["v_template"]}, "is 200 high, not a head in metres"),
        ({"v_template": np.full((4, 3), np.nan)}, "v_template holds numbers that are not finite"),
        ({"v_template": "mean"}, "v_template holds no table of numbers"),
        ({"f": small()["f"] + 1}, "triangles name vertices outside 0 to 3"),
        ({"f": small()["f"][:, [0, 0]]}, "triangles are a table of shape"),
        ({"kintree_table": np.array([[1, 0, 1, 1, 1], range(5)])}, "round in a circle"),
        ({"weights": np.tile([0.5, 0.5, 0, 0, 0], (4, 1))}, "leave it out with --no-jaw"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, changes, says):
    with pytest.raises(ImportModelError, match=says):
        flame.read_flame(pickled(tmp_path, small() | changes))


def test_what_is_no_model_is_refused_in_one_line_and_nothing_is_written(tmp_path):
    masks = {"face": np.arange(5), "neck": np.arange(3)}  # FLAME_masks.pkl
    assert "lacks v_template, shapedirs, f" in refusal(tmp_path, masks)
    assert "holds a list" in refusal(tmp_path, pickle.dumps([1]))
    assert "no whole pickle" in refusal(tmp_path, pickle.dumps(small())[:-200])
    assert "is a web page" in refusal(tmp_path, b"<!DOCTYPE html><title>Log in</title>")
    assert "it holds text" in refusal(tmp_path, b"404: Not Found")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 240875364\n"
    assert "is a Git LFS pointer" in refusal(tmp_path, pointer)
    assert "unpack it" in refusal(tmp_path, b"PK\x03\x04 and more")
    (tmp_path / "a.npy").mkdir()
    assert "is a folder" in refusal(tmp_path, small(), "--landmarks", tmp_path / "a.npy")
    assert "no such file" in refusal(tmp_path, small(), "--landmarks", "no.npy")


def test_an_npz_of_the_same_arrays_is_read_as_the_pickle_is(tmp_path):
    parts = {name: getattr(part, "toarray", lambda p=part: p)() for name, part in small().items()}
    path = tmp_path / "flame2023.npz"
    np.savez(path, **parts, part2num=np.array({"a": 1}, object))  # as SMPL-X's files have it
    read, wanted = flame.read_flame(path), flame.read_flame(pickled(tmp_path, small()))
    for name in ("mean", "identity", "expression", "faces"):
        np.testing.assert_array_equal(getattr(read, name), getattr(wanted, name))
    np.savez(path, v_template=parts["v_template"])
    with pytest.raises(ImportModelError, match="lacks shapedirs"):
        flame.read_flame(path)


def test_a_harmful_model_is_refused_by_name_and_not_run(tmp_path):
    canary = tmp_path / "canary"
    said = refusal(tmp_path, small() | {"v_template": Touches(canary)})
    assert "refused: it asks for posix.system" in said
    assert not canary.exists()


def test_help_says_what_to_give():
    said = run_script(import_flame.main, "--help", env={"COLUMNS": "200"}).output
    for word in ("generic_model.pkl", "albedoModel2020", "landmark_embedding.npy", "--no-jaw"):
        assert word in said


# The whole -------------------------------------------------------------------------------------


def test_the_file_says_what_it_is_and_what_was_left_out(imported):
    model, _ = imported
    assert model.metadata["name"] == "FLAME (generic_model)"
    assert "modellicense" in model.metadata["licence"]
    assert "posedirs" in model.metadata["provenance"]
    assert any("jaw" in note for note in json.loads(model.metadata["notes"]))
    assert list(model.controls) == ["jawOpen"]


def test_fitting_lowers_the_error_of_the_mean_on_the_models_own_samples(imported):
    model, _ = imported
    fits_its_own_samples(model)
