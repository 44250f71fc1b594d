"""Learning a face model from portraits: what is told apart, completed and carried over."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from portraits import completion, model_parts, shapes
from portraits.exposure import PortraitsError, exposure
from portraits.observe import from_log_opponents, log_opponents
from portraits.skins import LIGHT_SKIN, Skins, divide_light, first_of
from safetensors.numpy import load_file, save_file

from facerecon_lib.data.rendered import skin_residuals
from facerecon_lib.data.shards.files import write_index
from facerecon_lib.data.shards.samples import encode_photo, tar_bytes, write_shard
from facerecon_lib.face.colour import SKIN_LIGHTNESS, srgb_to_lab
from facerecon_lib.face.landmarks68 import BROWS, MIRROR_68, NOSE
from facerecon_lib.face.lighting import ambient_lighting, light_level, shade
from facerecon_lib.face.mesh import vertex_normals
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.networks.encoder import Encoder, load_encoder
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo

PORTRAITS = Path(os.environ.get("FACERECON_PORTRAITS", "../shared/portraits"))


@pytest.fixture(scope="module")
def model():
    return MorphableModel.load()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_log_opponents_and_back():
    colours = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
    torch.testing.assert_close(from_log_opponents(log_opponents(colours)), colours)


def test_hidden_skin_is_completed_and_outliers_are_not_learned():
    truth = 0.5 + 0.05 * torch.einsum("nk,kvc->nvc", random(600, 3), random(3, 400, 3, seed=1))
    weights = (random(600, 400, seed=2) > -0.5).float()
    seen = truth.clone()
    glasses = random(600, 400, seed=3) > 2.2  # 1.4 % of what is seen
    seen[glasses] = 0.0
    mean, whole, noise = completion.complete(seen, weights)
    hidden = weights == 0
    error = (whole - truth).abs().mean(-1)
    assert error[hidden].mean() < 0.25 * (truth.mean(0) - truth).abs().mean()
    assert (mean - truth.mean(0)).abs().mean() < 0.02
    assert noise < 0.1


def test_exposure_is_told_from_skin_by_people_seen_twice():
    people, photos = 200, 2
    skin = 0.5 * (0.15 * random(people, 3)).exp().repeat_interleave(photos, 0)
    lamp = 0.2 * random(people * photos, 3, seed=4)
    lamp[:, 1:] *= 0.3
    gains = from_log_opponents(lamp)
    noise = 0.02 * random(people * photos, 5, seed=5)
    cues = torch.cat([lamp, random(people * photos, 2, seed=6)], 1) + noise
    names = [f"p{i // photos}" for i in range(people * photos)]
    found, words = exposure(cues, skin * gains, names)
    level = log_opponents(found)[:, 0], lamp[:, 0]
    assert torch.corrcoef(torch.stack(level))[0, 1] > 0.98
    assert "200 pairs" in words
    # and skin itself moves it little, however light it is
    assert abs(float(torch.corrcoef(torch.stack([level[0], skin.mean(1)]))[0, 1])) < 0.25
    with pytest.raises(PortraitsError, match=r"group_people\.py"):
        exposure(cues, skin * gains, [str(i) for i in range(len(cues))])


def portraits_of(model: MorphableModel, albedo: torch.Tensor, lighting: torch.Tensor):
    """Something with the fields that `divide_light` reads."""
    normals = vertex_normals(model.mean[None], model.faces).expand(len(albedo), -1, -1)
    colours = shade(albedo, normals, lighting).clamp(0, 1)
    weights = normals[..., 2].clamp(min=0)
    parts = (colours * 255).round().byte(), (weights * 255).round().byte()
    return type("Seen", (), dict(
        colours=parts[0], weights=parts[1], normals=(normals * 127).round().char()
    ))  # fmt: skip


def test_light_is_divided_out_but_for_its_level(model):
    albedo = model.albedo(model.albedo_samples[:24].float()).clamp(0.1, 0.7)
    lighting = ambient_lighting(24, 0.8)
    lighting[:, 1:4] += 0.35 * random(24, 3, 1)
    shading, skin = divide_light(portraits_of(model, albedo, lighting), model)
    region = model.regions["skin"] * (1 - model.regions["border"])
    true = (albedo * region[:, None]).sum(1) / region.sum() * light_level(lighting)[:, None]
    assert (skin / true - 1).abs().median() < 0.06
    normals = vertex_normals(model.mean[None], model.faces).expand(24, -1, -1)
    expected = (
        shade(torch.ones_like(albedo), normals, lighting) / light_level(lighting)[:, None, None]
    )
    front = (normals[0, :, 2] > 0.5) & (region > 0.7)
    away = (shading.float() - expected)[:, front].abs().mean()
    assert away < 0.35 * (expected[:, front] - 1).abs().mean()


@pytest.fixture(scope="module")
def skins(model):
    """The model's own sample skins, as if portraits had shown them, but for the forehead."""
    pair = torch.minimum(torch.arange(len(model.mean)), model.mirror)
    first, both = pair.unique(return_inverse=True)
    colours = model.albedo(model.albedo_samples[:160].float())[:, first].clamp(0.02, 0.98)
    seen = (1 - model.regions["border"]) * (model.mean[:, 1] < 60)
    return Skins(model, [str(i) for i in range(160)], colours, both, seen, {})


def test_skins_of_all_tones_have_the_lightness_of_their_tones(skins):
    lightness = skins.lightness(skins.in_all_tones(60, seed=2))
    assert lightness.max() < SKIN_LIGHTNESS[0] + 0.3
    assert lightness.min() > SKIN_LIGHTNESS[-1] - 0.3
    tones = np.interp(-lightness.numpy(), -np.array(SKIN_LIGHTNESS), np.arange(1, 11))
    assert (np.histogram(tones, bins=[1, 4, 7, 10.1])[0] > 8).all()


def test_the_median_of_light_skin_is_as_measured_and_a_person_has_one_level(skins):
    own = replace(skins, colours=skins.colours.clone())
    people = [str(i // 2) for i in range(len(own.keys))]
    own._level(people)
    lab = srgb_to_lab(own._mean(own.colours).clamp(0, 1))
    torch.testing.assert_close(lab[0::2, 0], lab[1::2, 0], atol=0.5, rtol=0)
    light = lab[lab[:, 0] > lab[:, 0].quantile(0.3)].median(0).values
    torch.testing.assert_close(light, torch.tensor(LIGHT_SKIN), atol=2.0, rtol=0)


def test_the_membrane_continues_colours_and_keeps_those_that_are_seen(skins):
    x = torch.full((1, len(skins.model.mean), 3), 0.4)
    hidden = skins.seen == 0
    x[:, hidden] = 0.9
    filled = skins.membrane(x)
    assert (filled[:, hidden & (skins.model.regions["skin"] > 0.5)] - 0.4).abs().max() < 0.01
    torch.testing.assert_close(filled[:, ~hidden].median(), torch.tensor(0.4))


def test_portraits_are_projected_to_the_coefficients_of_their_skin(skins):
    model = skins.model
    found = model_parts.project(model, skins)
    skin = (model.regions["skin"] * skins.seen)[:, None]
    error = (model.albedo(found) - skins.colours[:, skins.both]).abs() * skin
    assert error.sum() / (3 * skin.sum() * len(found)) < 0.03


def test_brows_landmarks_go_to_the_points_of_the_brows(model, tmp_path):
    path = tmp_path / "model.safetensors"
    parts, metadata = load_file(shipped_file("face_model.safetensors")), model.metadata
    parts["landmarks"][BROWS] = parts["landmarks"][NOSE][0]
    kept = {key: metadata[key] for key in ("name", "format", "regions", "controls", "licence")}
    save_file(parts, path, kept)
    assert model_parts.place_brows(path) > 30  # mm
    moved = MorphableModel.load(path)
    torch.testing.assert_close(moved.landmarks, model.landmarks)  # as they ship
    torch.testing.assert_close(moved.landmarks[MIRROR_68], model.mirror[moved.landmarks])
    places = model.mean[model.dense.vertices] + model.dense.offsets
    upper = places[[63, 105, 66]]  # of the right brow
    away = (model.mean[moved.landmarks[18:21]] - upper).norm(dim=1)
    assert (away < 3.0).all()  # mm; vertices of the coarse mesh


def test_residuals_are_what_the_basis_leaves_out(skins, tmp_path, monkeypatch):
    """Skins with a spot that no mode has: the first residual mode is the spot."""
    model, monkey = skins.model, monkeypatch
    half = first_of(skins.both)
    spot = torch.exp(-((model.mean[half] - model.mean[model.landmarks[31]]).norm(dim=1) ** 2) / 200)
    strength = 0.4 * random(len(skins.keys))[:, None, None]
    spotted = replace(skins, colours=skins.colours * (strength * spot[:, None]).exp())
    path = tmp_path / skin_residuals.FILE
    own = model.albedo_samples[: len(skins.keys)].float()
    share = model_parts.write_residuals(path, model, spotted, own)
    assert share > 0.9
    monkey.setattr(skin_residuals, "shipped_file", lambda name: tmp_path / name)
    mode = skin_residuals.skin_residuals(model)[0, half].mean(-1)
    seen = spot * (model.regions["skin"] * skins.seen * (1 - model.regions["border"]))[half]
    assert abs(float(torch.cosine_similarity(mode, seen, 0))) > 0.95
    assert 0.25 < mode.abs().max() < 0.55


def test_a_carried_encoder_says_the_same_of_the_learned_model(model, tmp_path):
    shift = 0.3 * random(80)
    shift = (shift + shift @ model.mirrored_modes[0]) / 2
    shape = shapes.PeopleShape(shift, 0.6 + 0.4 * torch.rand(80))
    mean, basis, _ = shape.correct(model)
    light = MorphableModel.load(albedo="light")
    new = replace(light, mean=mean, identity_basis=basis)
    encoder = Encoder(model.sizes, "mobilenet_v3_large").eval()
    encoder.head.weight.data += 0.02 * random(*encoder.head.weight.shape)
    images = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = encoder(images)
        shapes.carry_encoder(encoder, model, new, shape, tmp_path / "carried.safetensors")
        after = load_encoder(tmp_path / "carried.safetensors")(images)
    vertices = [m.shape(c.identity, c.expression) for m, c in ((model, before), (new, after))]
    torch.testing.assert_close(*vertices, atol=0.05, rtol=0)  # the mean is made symmetric
    torch.testing.assert_close(after.rotation, before.rotation)
    region = model.regions["skin"]
    colours = [(m.albedo(c.albedo) * region[:, None]).sum(1) / region.sum() for m, c in (
        (model, before), (new, after))]  # fmt: skip
    assert (colours[0] - colours[1]).abs().max() < 0.05


def test_what_cannot_be_learned_from_is_told_before_the_work(tmp_path):
    import learn_face_model

    base, encoder = shipped_file("face_model.safetensors"), None
    with pytest.raises(FacereconError, match=r"no such folder"):
        learn_face_model.learn(tmp_path / "none", base, tmp_path / "m.safetensors", encoder, 0)
    with pytest.raises(FacereconError, match=r"--out .*: there is no folder"):
        learn_face_model.learn(tmp_path, base, tmp_path / "none/m.safetensors", encoder, 0)
    write_shard(
        tmp_path / "photos-00000.tar", [tar_bytes(sample_of("a")), tar_bytes(sample_of("b"))]
    )
    write_index(tmp_path)
    with pytest.raises(PortraitsError, match=r"0 pairs of photos of one person"):
        learn_face_model.learn(tmp_path, base, tmp_path / "m.safetensors", encoder, 0)


def sample_of(person: str) -> dict:
    crop = align(sample_photo().pixels, sample_detection().landmarks)
    return encode_photo(person, crop, "2d", person, "photo.jpg")


@pytest.mark.slow
@pytest.mark.skipif(not (PORTRAITS / "index.json").is_file(), reason="needs $FACERECON_PORTRAITS")
def test_learning_again_gives_the_shipped_skin(tmp_path):
    import group_people
    import learn_face_model

    base = tmp_path / "base.safetensors"
    base.write_bytes(shipped_file("face_model.safetensors").read_bytes())
    group_people.main(PORTRAITS, tmp_path / "shards")
    learn_face_model.learn(tmp_path / "shards", base, tmp_path / "again.safetensors", None, 0)
    shipped, again = (load_file(p) for p in (base, tmp_path / "again.safetensors"))
    for name in ("albedo_mean_monk", "albedo_mean_light"):
        assert np.abs(shipped[name] - again[name]).mean() < 0.02, name
        bases = (m[name.replace("mean", "basis")].astype(np.float32) for m in (shipped, again))
        own, other = (basis.reshape(len(basis), -1) for basis in bases)
        kept, whole = ((x**2).sum(1) for x in (own @ np.linalg.qr(other.T)[0], own))
        assert (kept[:6] > 0.9 * whole[:6]).all(), name  # nearly one space of skins, though
        assert kept.sum() > 0.96 * whole.sum(), name  # placed by another model than at first
    brows = (m["mean"][m["landmarks"][BROWS]] for m in (shipped, again))
    assert np.linalg.norm(next(brows) - next(brows), axis=1).max() < 6  # mm
    assert (tmp_path / skin_residuals.FILE).is_file()
