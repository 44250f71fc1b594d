"""A bilinear tensor, made up from the shipped model: to Eq. 1, to the product, and refusals."""

import numpy as np
import pytest
import torch
import typer
from face_models.bilinear import pose_names, read_bilinear, read_mesh, read_tensor
from face_models.tables import ImportModelError
from import_bilinear import main
from made_up_models.made_up_bilinear import ACTIONS, tensor_of, write_files
from scipy.io import savemat

from facerecon_lib.face.bilinear import BilinearModel
from facerecon_lib.face.morphable_model import MorphableModel


@pytest.fixture(scope="module")
def folder(shipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bilinear")
    write_files(shipped, folder)
    return folder


@pytest.fixture(scope="module")
def tensor(shipped):
    return tensor_of(shipped)


def test_eq_1_has_the_mean_faces_identities_and_mean_actions(folder, tensor, shipped):
    source = read_bilinear(folder / "tensor.npz", folder / "neutral.obj", 4, folder / "names.txt")
    assert np.allclose(source.mean, tensor[:, 0].mean(0), atol=1e-3)
    assert source.identity.shape == (4, len(shipped.mean), 3)
    assert [*source.controls] == [*ACTIONS]
    jaw = source.controls["jawOpen"] @ source.expression.reshape(3, -1)
    mean = (tensor[:, 1] - tensor[:, 0]).mean(0).ravel()
    assert np.allclose(jaw, mean, atol=1e-3)
    assert "mm for one person" in source.notes[1]


def test_an_imported_tensor_loads_as_a_face_model(folder, tensor, tmp_path):
    out = tmp_path / "warehouse.safetensors"
    places = dict(mesh=folder / "neutral.obj", landmarks=folder / "landmarks.txt")
    main(folder / "tensor.npz", out, names=folder / "names.txt", crop=False, bind=False, **places)
    model = MorphableModel.load(out, subdivision=0)
    assert tuple(model.sizes)[:2] == (11, 3)
    moved = model.expression_from_controls({"jawOpen": 1.0}) @ model.expression_basis.flatten(1)
    mean = (tensor[:, 1] - tensor[:, 0]).mean(0).ravel()
    assert np.allclose(moved[0].numpy(), mean, atol=0.05)


def test_the_product_is_kept_with_every_pose(folder, tensor, tmp_path):
    out = tmp_path / "product.safetensors"
    main(folder / "tensor.npz", out, bilinear=True)
    model = BilinearModel.load(out)
    poses = [
        model.shape(model.people, model.expressions[j : j + 1].expand(12, -1)) for j in range(4)
    ]
    assert np.allclose(torch.stack(poses, 1).numpy(), tensor, atol=0.3)


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.001], ids=["mm", "cm", "m"])
def test_units_are_told_by_the_size_of_a_face(tensor, tmp_path, scale):
    np.save(tmp_path / "t.npy", tensor.reshape(12, 4, -1) * scale)
    got, _ = read_tensor(tmp_path / "t.npy")
    assert np.allclose(got, tensor, atol=1e-2)


def test_a_mat_file_is_read_too(tensor, tmp_path):
    savemat(tmp_path / "t.mat", {"data": tensor})
    assert np.allclose(read_tensor(tmp_path / "t.mat")[0], tensor)


def spoiled(tensor, change):
    copy = tensor.copy()
    return change(copy)


def with_nan(tensor):
    tensor[0, 1, 2] = np.nan
    return tensor


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[:, :, :, :2], "has the shape"),
        (lambda t: t[:3], "holds 3 people"),
        (lambda t: t[:, :1], "holds 1 poses"),
        (lambda t: t[:, :, :50], "holds 50 vertices"),
        (lambda t: 7 * t, "no face in"),
        (lambda t: t.astype(str), "holds no numbers"),
        (with_nan, "not finite"),
    ],
    ids=["shape", "people", "poses", "vertices", "units", "text", "nan"],
)
def test_an_implausible_tensor_is_refused_in_one_line(tensor, tmp_path, change, words):
    np.save(tmp_path / "t.npy", spoiled(tensor, change))
    with pytest.raises(ImportModelError, match=words) as error:
        read_tensor(tmp_path / "t.npy")
    assert "\n" not in str(error.value)


def test_a_file_without_a_tensor_is_refused(tensor, tmp_path):
    np.savez(tmp_path / "core.npz", core=tensor)
    with pytest.raises(ImportModelError, match="core tensor alone"):
        read_tensor(tmp_path / "core.npz")
    np.savez(tmp_path / "other.npz", weights=tensor)
    with pytest.raises(ImportModelError, match="lacks an array called tensor"):
        read_tensor(tmp_path / "other.npz")
    (tmp_path / "t.npy").write_text("<!doctype html>")
    with pytest.raises(ImportModelError, match="web page"):
        read_tensor(tmp_path / "t.npy")
    (tmp_path / "shape.bs").write_bytes(bytes(16))
    with pytest.raises(ImportModelError, match=r"no \.mat, \.npz or \.npy"):
        read_tensor(tmp_path / "shape.bs")


def test_meshes_and_names_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(ImportModelError, match="--mesh"):
        read_mesh(None, 3437)
    with pytest.raises(ImportModelError, match="the tensor has 10"):
        read_mesh(folder / "neutral.obj", 10)
    with pytest.raises(ImportModelError, match="expected 46 different names"):
        pose_names(folder / "names.txt", 47)
    assert pose_names(None, 3) == ["pose01", "pose02"]


def test_a_refusal_of_the_script_is_one_line_and_leaves_no_file(folder, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    for product in (True, False):
        with pytest.raises(typer.Exit):
            main(tmp_path / "missing.npz", out, bilinear=product)
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(typer.Exit):
        main(folder / "tensor.npz", out, mesh=folder / "neutral.obj", bilinear=True)
    assert "leave --mesh" in capsys.readouterr().err
    assert not out.exists()
