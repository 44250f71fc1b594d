"""The encoder in the package: small, of this face model, and better than knowing nothing."""

from functools import lru_cache

import torch
from small_faces import model

from facerecon_lib.augmented.branch import BaseBranch
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.evaluation.evaluation import ENCODER, MEAN, POSED
from facerecon_lib.evaluation.runs import evaluate_batches, evaluate_rendered
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.fitting.fit import judge
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.crop import align
from facerecon_lib.photos.detection import sample_detection, sample_photo


@lru_cache
def encoder():
    return load_encoder(model=model())


def branch() -> BaseBranch:
    return BaseBranch(encoder(), model(), "encoder")


@lru_cache
def sample() -> FaceBatch:
    crop, found = align(sample_photo().pixels, sample_detection().landmarks), sample_detection()
    return FaceBatch(crop.image, crop.valid, crop.landmarks, found.kind, ["astronaut.jpg"])


def test_it_is_at_most_8_megabytes_and_says_where_it_comes_from():
    assert shipped_file("base_encoder.safetensors").stat().st_size <= 8e6
    assert encoder().metadata["model"] == model().metadata["name"]
    assert encoder().sizes == model().sizes


def test_on_rendered_faces_that_it_never_saw_it_beats_the_mean_face():
    faces = RenderedFaces(model(), seed=31, family="held-out")
    found = evaluate_rendered(branch(), faces, 48, scans=8)
    for name, share in (("vertex_mm", 0.85), ("albedo_rgb", 0.5), ("ita", 0.5)):
        ours, mean = (found.summary(method, name)["median"] for method in (ENCODER, MEAN))
        assert ours < share * mean, name
    for method, share in ((MEAN, 0.25), (POSED, 0.9)):
        ours, theirs = (found.summary(m, "landmark")["median"] for m in (ENCODER, method))
        assert ours < share * theirs, method
    assert found.scan_to_mesh[ENCODER]["median"] < found.scan_to_mesh[MEAN]["median"]


def test_on_the_bundled_photo_it_beats_the_mean_face_and_is_to_be_trusted():
    found = evaluate_batches(branch(), [sample()], "the bundled photo")
    for method in (MEAN, POSED):
        assert found.better(ENCODER, method, "landmark") == 1
        assert found.better(ENCODER, method, "photometric") == 1
    with torch.no_grad():
        coefficients = encoder()(sample().image)
    assert judge(model(), sample(), coefficients).converged == [True]
