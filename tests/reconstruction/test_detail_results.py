"""`facerecon reconstruct --augmented`: the detailed mesh, both maps, and what result.json says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from command_line import SAMPLE, assert_landmarks_reproject, facerecon, refused, result_of, works
from PIL import Image
from safetensors.torch import load_file
from small_faces import model

from facerecon_lib.augmented.branch import augment, base_faces
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.unet import UNET_FILE, DoubleHeadUNet, OffsetMaps, load_unet, save_unet
from facerecon_lib.photos.detection import sample_photo
from facerecon_lib.pictures.offset_maps import shown_maps
from facerecon_lib.reconstruction import output_folder
from facerecon_lib.reconstruction.reconstruct import encode_face, usual_light
from facerecon_lib.reconstruction.result_files import result_dict
from facerecon_lib.reconstruction.texture import SIZE
from facerecon_lib.rendering.atlas import texture_atlas


@pytest.fixture(scope="module")
def unet_file(tmp_path_factory):
    """A U-Net that has learnt nothing, but whose maps are not zero."""
    return write_unet(tmp_path_factory.mktemp("unet") / "random.safetensors")


def write_unet(path: Path, **metadata: str) -> Path:
    torch.manual_seed(3)
    unet = DoubleHeadUNet(width=8, depth=3)
    for head, bias in ((unet.texture, (0.6, -0.4, 0.5)), (unet.displacement, (0.2, -0.3, 0.9))):
        torch.nn.init.normal_(head.last.weight, std=0.5)
        head.last.bias.data = torch.tensor(bias)
    save_unet(path, unet, {"model": "facerecon learned face", "albedo": "monk", **metadata})
    return path


def results(out: Path, *options) -> tuple[Path, dict]:
    works("reconstruct", SAMPLE, "--out", out, *options)
    return out / "astronaut", result_of(out / "astronaut")


@pytest.fixture(scope="module")
def detailed(unet_file, tmp_path_factory):
    return results(tmp_path_factory.mktemp("out"), "--augmented", "--unet", unet_file)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return results(tmp_path_factory.mktemp("plain"))


def load_mesh(path: Path) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh", process=False)


def test_details_come_with_both_maps_and_the_base_mesh(detailed, plain):
    assert {p.name for p in detailed[0].iterdir()} == output_folder.ALWAYS | output_folder.DETAIL
    assert {p.name for p in plain[0].iterdir()} == output_folder.ALWAYS
    assert list(detailed[1]) == list(plain[1])
    assert plain[1]["detail"] is None
    for path in detailed[0].glob("*.png"):
        assert min(Image.open(path).size) >= 400
        assert np.asarray(Image.open(path).convert("L")).std() > 5


def test_the_base_mesh_is_the_mesh_without_details(detailed, plain):
    base, without = load_mesh(detailed[0] / "base_mesh.ply"), load_mesh(plain[0] / "mesh.ply")
    np.testing.assert_array_equal(base.vertices, without.vertices)
    np.testing.assert_array_equal(base.visual.vertex_colors, without.visual.vertex_colors)
    for key in ("coefficients", "pose", "lighting", "camera", "crop"):
        assert detailed[1][key] == plain[1][key]


def test_the_numbers_are_those_of_the_two_meshes(detailed):
    folder, result = detailed
    mesh, base = load_mesh(folder / "mesh.ply"), load_mesh(folder / "base_mesh.ply")
    moved = np.linalg.norm(mesh.vertices - base.vertices, axis=1)
    said = result["detail"]
    assert said["displacement_rms_mm"] == pytest.approx(np.sqrt((moved**2).mean()), rel=1e-3)
    assert said["displacement_max_mm"] == pytest.approx(moved.max(), rel=1e-3)
    assert said["displacement_max_mm"] > 0.2
    colours = (np.asarray(m.visual.vertex_colors)[:, :3].astype(int) for m in (mesh, base))
    painted = np.subtract(*colours)
    assert 0.01 < np.sqrt((painted**2).mean()) / 255 < 1.1 * said["texture_rms"] + 0.01
    assert 0.2 < said["seen_share"] < 0.9
    assert (said["space"], said["sampling"]) == ("image", "bilinear")
    assert said["checkpoint"] == "random.safetensors"
    assert said["photometric_error"]["detailed"] == result["losses"]["photometric_error"]
    assert said["photometric_error"]["base"] != said["photometric_error"]["detailed"]
    assert result["texture"] == "photo"
    split = mesh.vertices[texture_atlas(MorphableModel.load(), SIZE).vertex]
    assert load_mesh(folder / "mesh.glb").vertices == pytest.approx(split, abs=1e-3)


def test_the_maps_are_what_the_vertices_read(detailed):
    """The stored arrays, read where the base mesh projects, move it to the detailed one."""
    folder, result = detailed
    maps = load_file(folder / "offset_maps.safetensors")
    shapes = {name: tuple(values.shape) for name, values in maps.items()}
    assert shapes == dict.fromkeys(("texture", "displacement"), (3, 224, 224))
    fine = MorphableModel.load()
    done = encode_face(sample_photo(), fine, load_encoder(model=fine))
    base = base_faces(fine, done.fitted.coefficients, 224)
    found = augment(base, OffsetMaps(maps["texture"][None], maps["displacement"][None]))
    mesh = load_mesh(folder / "mesh.ply")
    np.testing.assert_allclose(mesh.vertices, found.face.vertices[0], atol=1e-3)
    colours = (found.face.albedo[0].clamp(0, 1) * 255).numpy()
    assert np.abs(np.asarray(mesh.visual.vertex_colors)[:, :3] - colours).max() < 1
    rms = found.offsets.texture.square().mean().sqrt().item()
    assert result["detail"]["texture_rms"] == pytest.approx(rms, rel=1e-3)


def test_from_the_file_alone_the_detailed_landmarks_reproject(detailed, plain):
    assert_landmarks_reproject(detailed[1])
    v = np.array(detailed[1]["landmarks_mm"])
    mesh = load_mesh(detailed[0] / "mesh.ply")
    distance = np.linalg.norm(mesh.vertices[None] - v[:, None], axis=-1).min(1)
    assert distance.max() < 1e-2
    assert np.abs(v - np.array(plain[1]["landmarks_mm"])).max() > 0.05


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--unet any", "--unet is of the augmented branch: add"),
        ("--augmented --unet nowhere", "nowhere: there is no such offset U-Net"),
        (f"--augmented --unet {SAMPLE}", "not a readable safetensors file"),
        ("--illumination known", "--illumination known: expected photo, encoder, grey or free"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(tmp_path, options, says):
    nothing_is_made(tmp_path / "out", says, *options.split())


def nothing_is_made(out: Path, says: str, *options) -> None:
    refused(facerecon("reconstruct", SAMPLE, "--out", out, *options), says)
    assert not out.exists()


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"model": "Basel"}, "was trained for Basel, not for facerecon learned face"),
        ({"albedo": "light"}, "was trained on the albedo basis 'light', not on 'monk'"),
    ],
)
def test_a_unet_of_another_model_is_refused(tmp_path, metadata, says):
    path = write_unet(tmp_path / "other.safetensors", **metadata)
    nothing_is_made(tmp_path / "out", says, "--augmented", "--unet", path)


def test_a_unet_that_is_not_there_is_refused(tmp_path, monkeypatch):
    nowhere = replace(UNET_FILE, shipped=str(tmp_path / "none"))
    monkeypatch.setattr("facerecon_lib.networks.unet.UNET_FILE", nowhere)
    says = "none: there is no such offset U-Net; facerecon train augmented makes one"
    nothing_is_made(tmp_path / "out", says, "--augmented")


def test_the_base_stands_in_the_light_that_the_unet_knows(tmp_path):
    path = write_unet(tmp_path / "grey.safetensors", light="grey", space="uv")
    unet, encoder = load_unet(path, model()), load_encoder(model=model())
    done = encode_face(sample_photo(), model(), encoder, unet=unet)
    light = done.detail.base.coefficients.lighting
    torch.testing.assert_close(light, light[..., :1].expand(-1, -1, 3))
    torch.testing.assert_close(done.fitted.coefficients.lighting, light)
    assert result_dict(done)["detail"]["space"] == "uv"
    other = encode_face(sample_photo(), model(), encoder, light="photo", unet=unet)
    assert (other.fitted.coefficients.albedo - done.fitted.coefficients.albedo).abs().max() > 0.1
    unet = DoubleHeadUNet(width=8, depth=3)
    assert usual_light(None) == usual_light(unet) == "photo"
    unet.metadata = {"light": "known"}  # which no photo has
    assert usual_light(unet) == "photo"


def test_maps_that_are_no_numbers_stop_the_photo(tmp_path):
    unet, encoder = DoubleHeadUNet(width=8, depth=3), load_encoder(model=model())
    unet.displacement.last.bias.data[:] = torch.inf
    with pytest.raises(FloatingPointError, match="maps are not finite"):
        encode_face(sample_photo(), model(), encoder, unet=unet)


def test_outwards_is_away_from_the_head():
    base = base_faces(model(), model().neutral(), 224)
    forwards = torch.zeros(1, 3, 224, 224)
    forwards[:, 2] = 2.0  # mm
    found = augment(base, OffsetMaps(torch.zeros_like(forwards), forwards))
    shown = shown_maps(found)
    seen = shown.outward[shown.read]
    assert np.quantile(seen, 0.9) == pytest.approx(2.0, abs=0.1)  # where the face looks forwards
    assert shown.outward.min() > -2.0
    assert (seen > 0).mean() > 0.9
    assert shown.read.shape == shown.outward.shape == shown.texture.shape[:2]
    assert shown.read.shape[0] < 224


def test_shading_moves_the_shape_and_leaves_the_skin(plain, tmp_path):
    folder, result = results(tmp_path, "--detail", "shading")
    assert {p.name for p in folder.iterdir()} == output_folder.ALWAYS | output_folder.DETAIL
    said = result["detail"]
    assert said["checkpoint"] == "depth_unet.safetensors"
    assert said["texture_rms"] == 0
    assert 0.01 < said["displacement_rms_mm"] < said["displacement_max_mm"] < 5
    assert result["coefficients"] == plain[1]["coefficients"]
