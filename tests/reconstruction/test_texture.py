"""A texture baked from a photo: true where the photo shows the face, without a seam elsewhere."""

import io
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
import trimesh
from command_line import SAMPLE, facerecon, refused
from small_faces import model

from facerecon_lib.face.camera import CROP_SIZE, project_ndc
from facerecon_lib.face.lighting import ambient_lighting, shade
from facerecon_lib.fitting.photo_light import light_from_photo
from facerecon_lib.photos.crop import Crop
from facerecon_lib.pictures.faces import layer, to_uint8
from facerecon_lib.reconstruction.mesh_export import mesh_file
from facerecon_lib.reconstruction.result_files import write_photo
from facerecon_lib.reconstruction.texture import SIZE, bake
from facerecon_lib.rendering.atlas import FIRST_CHART, Texture
from facerecon_lib.rendering.synthesis import Face, synthesise
from facerecon_lib.rendering.visibility import visible_vertices

SIDE = -50.0  # degrees


class Scene:
    """A photo of a known face with a mole, and a fit of true shape, of another skin and light."""

    def __init__(self, yaw: float = 0.0, mole: float = 1.0, plain: bool = False):
        m, self.lighting = model(1), ambient_lighting(1, 0.9)
        sideways = torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.25, 0.2], [0.3, 0.3, 0.3]])
        self.lighting[0, 1:4] += (not plain) * sideways
        c = m.neutral()
        c.rotation[:, 1] = np.radians(yaw)
        c.lighting = self.lighting
        _, c.expression, c.albedo = m.random(1, torch.Generator().manual_seed(4))
        true = synthesise(m, c)
        if plain:
            true.albedo = torch.tensor([0.6, 0.5, 0.4]).expand_as(true.albedo).clone()
        self.cheek = int((m.mean - torch.tensor([38.0, -15.0, 5.0])).norm(dim=1).argmin())
        self.spot = (m.mean - m.mean[self.cheek]).norm(dim=1) < 6
        true.albedo[:, self.spot] *= mole
        true.colours = shade(true.albedo, true.normals, c.lighting)
        self.true = true
        photo, _ = true.render(2 * CROP_SIZE, background=0.3)
        self.pixels = to_uint8(photo[0])
        small = torch.nn.functional.avg_pool2d(
            torch.from_numpy(self.pixels).permute(2, 0, 1)[None] / 255, 2
        )
        matrix = torch.tensor([[0.5, 0, 0], [0, 0.5, 0]])
        self.crop = Crop(small, torch.ones_like(small[:, :1]), true.landmarks(), matrix)
        guess = replace(c, albedo=torch.zeros_like(c.albedo), lighting=ambient_lighting(1, 0.9))
        guess.lighting = light_from_photo(m, guess, small, self.crop.valid)
        self.fit, self.light = synthesise(m, guess), guess.lighting
        if plain:  # too dark, the more so to one side
            self.fit.albedo = self.true.albedo * (0.8 + 0.002 * m.mean[:, :1])

    def bake(self, kind: str) -> Texture:
        return bake(self.pixels, self.crop, self.fit, self.light, kind)


@lru_cache
def scene(*about) -> Scene:
    return Scene(*about)


def at_vertices(texture: Texture, m) -> torch.Tensor:
    """(V, 3) the texture's colours."""
    colours = torch.zeros(len(m.mean), 3)
    colours[texture.atlas.vertex] = texture.at(texture.atlas.uv.T[:, None])[:, 0].T
    return colours


def error(colours: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean absolute, after the best factor per channel: light and skin share one."""
    factor = (colours * truth).sum(0) / colours.square().sum(0)
    return float((factor * colours - truth).abs().mean())


def test_the_photos_texture_is_nearer_the_true_skin_than_the_fitted_skin():
    s = scene(10.0, 0.7)
    m = s.fit.model
    texture = at_vertices(s.bake("photo"), m)
    seen = (
        (visible_vertices(s.fit)[0] > 0)
        & (s.fit.normals[0, :, 2] > 0.5)
        & (m.regions["skin"] > 0.5)
    )
    truth = s.true.albedo[0, seen]
    baked, fitted = error(texture[seen], truth), error(s.fit.albedo[0, seen], truth)
    assert baked < 0.02
    assert baked < 0.7 * fitted


def render(face: Face, texture: Texture, size: int) -> torch.Tensor:
    """(4, size, size) the face with its unlit texture, and where it covers."""
    vertex, faces, uv = texture.atlas[:3]
    uv, covered = layer(
        project_ndc(face.v_camera[:, vertex], face.fov_deg), faces, uv[None], size, fine=1
    ).split([2, 1])
    return torch.cat([texture.at(uv), covered])


def test_the_lit_texture_renders_to_the_photo():
    s = scene(10.0, 0.7)
    *image, covered = render(s.fit, s.bake("lit"), 2 * CROP_SIZE)
    photo = torch.from_numpy(s.pixels).permute(2, 0, 1) / 255
    plain, _ = s.fit.render(2 * CROP_SIZE)
    wrong = [(x - photo).abs().mean(0)[covered > 0].mean() for x in (torch.stack(image), plain[0])]
    assert wrong[0] < 0.01
    assert wrong[0] < 0.4 * wrong[1]


@pytest.mark.parametrize("kind", ["photo", "lit"])
def test_no_seam_shows_where_the_photo_ends(kind):
    """On skin of one colour, of which the fit's differs by 5 to 35 %."""
    s = scene(40.0, 1.0, True)
    texture = s.bake(kind)
    regions = s.fit.model.regions
    skin = ((regions["skin"] > 0.9) & (regions["eyes"] < 0.1)).float()[None, :, None]
    flat = texture.atlas.unroll(skin)[0, : round(FIRST_CHART * SIZE), :, 0] > 0.99
    image = texture.image[0, :, : round(FIRST_CHART * SIZE)]
    steps = image.diff(dim=2).abs().amax(0)[flat[:, 1:] & flat[:, :-1]]
    assert steps.max() < 0.05


def test_what_only_the_other_side_shows_is_mirrored():
    marked, plain = (scene(SIDE, mole, False).bake("photo") for mole in (0.6, 1.0))
    s = scene(SIDE, 0.6, False)
    m = s.fit.model
    ratio = at_vertices(marked, m) / at_vertices(plain, m)
    other = int(m.mirror[s.cheek])
    seen = visible_vertices(s.fit)[0]
    assert seen[[s.cheek, other]].tolist() == [1, 0]
    assert ratio[s.cheek].max() < 0.7
    assert ratio[other].max() < 0.9
    assert ratio[m.landmarks[30]].min() > 0.97


@pytest.mark.parametrize("kind", ["photo", "lit"])
def test_a_glb_holds_the_texture(kind):
    s = scene(10.0, 0.7)
    texture, m = s.bake(kind), s.fit.model
    data = mesh_file("glb", s.fit.vertices[0], m.faces, s.fit.albedo[0], texture)
    assert len(data) < 2_500_000
    mesh = trimesh.load(io.BytesIO(data), file_type="glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices, s.fit.vertices[0, texture.atlas.vertex], atol=1e-4)
    np.testing.assert_array_equal(mesh.faces, texture.atlas.faces)
    material = mesh.visual.material
    assert material.metallicFactor == 0
    assert not material.doubleSided
    picture = material.baseColorTexture
    assert picture.size == (SIZE, SIZE)
    assert b"image/jpeg" in data
    stored = np.asarray(picture).astype(int)
    assert np.abs(stored - to_uint8(texture.image[0])).mean() < 1.5
    assert (b"KHR_materials_unlit" in data) == (kind == "lit")
    # trimesh counts v upwards
    np.testing.assert_allclose(
        mesh.visual.uv, texture.atlas.uv * torch.tensor([1, -1]) + torch.tensor([0, 1]), atol=1e-5
    )
    again = replace_image(texture, stored)
    *shown, covered = render(s.fit, again, CROP_SIZE)
    *wanted, _ = render(s.fit, texture, CROP_SIZE)
    assert (torch.stack(shown) - torch.stack(wanted))[:, covered > 0].abs().mean() < 0.01


def replace_image(texture: Texture, pixels: np.ndarray) -> Texture:
    return texture._replace(image=torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)


def test_another_texture_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="texture 'foto': expected one of albedo, photo, lit"):
        write_photo(None, tmp_path, texture="foto")
    done = facerecon("reconstruct", SAMPLE, "--out", tmp_path, "--texture", "foto")
    refused(done, "--texture foto: expected albedo, photo or lit")
