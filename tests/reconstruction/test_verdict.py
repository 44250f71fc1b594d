"""What nobody should rely on is told, whatever the fit to its landmarks; good photos are not."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from spoiled_photos import fair, spoiled, without_faces

from facerecon_lib.face.colour import MONK_TONES, linear_to_srgb, srgb_to_linear
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.photos.detection import DetectionError, detect, sample_photo
from facerecon_lib.photos.landmarks import detectors
from facerecon_lib.photos.quality import Quality
from facerecon_lib.photos.reading import Photo
from facerecon_lib.reconstruction.reconstruct import encode_face
from facerecon_lib.reconstruction.verdict import AT_LEAST, LIMITS, Evidence, _tint

pytestmark = pytest.mark.skipif(
    not all(row["ready"] for row in detectors() if "MTCNN" in row["name"]),
    reason="no detector is installed",
)
HOPPER = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


@pytest.fixture(scope="module")
def reasons_of(model):
    encoder = load_encoder(model=model)

    def judge(image: Image.Image) -> tuple[str, ...] | None:
        """The evidence's reasons; None where there is no face."""
        try:
            done = encode_face(Photo(np.asarray(image.convert("RGB"))), model, encoder)
        except DetectionError:
            return None
        return done.evidence.reasons()

    return judge


@pytest.fixture(scope="module")
def people():
    images = [Image.fromarray(sample_photo().pixels), Image.open(HOPPER).convert("RGB")]
    return [(image, detect(np.asarray(image)).landmarks) for image in images]


def test_a_missing_mouth_a_handful_of_pixels_and_a_profile_are_told(reasons_of, people):
    pictures = dict(spoiled(*people[0]))
    profile = dict(without_faces())["camera"]
    assert any("outside the photo" in r for r in reasons_of(pictures["cut: no mouth"]))
    assert any("spans 12 pixels" in r for r in reasons_of(pictures["tiny: 12 pixels"]))
    assert reasons_of(profile)
    assert any("brightest" in r for r in reasons_of(pictures["three stops under"]))
    assert any("coloured" in r for r in reasons_of(pictures["red lamp"]))
    assert any("mouth" in r for r in reasons_of(pictures["mask, white"]))
    assert any("eyes" in r for r in reasons_of(pictures["sunglasses"]))


@pytest.mark.parametrize("tone", range(10))
def test_the_rule_for_coloured_light_is_the_same_for_every_skin(tone):
    def tint(*lamp: float) -> float:
        light = srgb_to_linear(torch.tensor(MONK_TONES[tone])) * torch.tensor(lamp)
        return _tint(linear_to_srgb(light.clamp(0, 1))[:, None])

    limit = LIMITS["tint"][0]
    assert tint(1, 1, 1) < limit
    assert tint(1, 0.85, 0.65) < limit  # a warm room
    assert tint(0.25, 0.21, 0.16) < limit  # the same, two stops under
    assert tint(0.35, 0.5, 1.6) > limit  # a blue lamp
    assert tint(0.4, 1.3, 0.4) > limit  # a green one


def test_two_good_photos_are_relied_on(reasons_of, people):
    for image, _ in people:
        assert reasons_of(image) == ()


@pytest.mark.slow
def test_nine_of_ten_bad_photos_are_told_and_at_most_one_good_one_in_twenty(reasons_of, people):
    bad = [*without_faces(), *(picture for person in people for picture in spoiled(*person))]
    missed = [kind for kind, image in bad if reasons_of(image) == ()]
    assert len(bad) >= 100
    assert len(missed) <= 0.1 * len(bad), missed
    assert set(missed) & {"mask, blue", "sunglasses", "blurred", "cut: no mouth"} == set()
    good = [picture for person in people for picture in fair(*person)]
    refused = [(kind, reasons_of(image)) for kind, image in good if reasons_of(image)]
    assert len(refused) <= 0.05 * len(good), refused


GOOD = Quality(0.9999, 0.0, 150.0, 0.4, 0.0, 0.0, 0.0, 0.006, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", LIMITS)
def test_a_number_beyond_its_limit_is_the_one_reason(name):
    good = Evidence(GOOD, 0.95, 0.8, 0.7, 0.1, 0.06, 0.1)
    assert good.reasons() == ()
    worse = {name: LIMITS[name][0] * (0.9 if name in AT_LEAST else 1.1)}
    own = name in Evidence.__dataclass_fields__
    bad = replace(good, **worse) if own else replace(good, quality=replace(GOOD, **worse))
    words = LIMITS[name][1].format(value=worse[name], limit=LIMITS[name][0])
    assert bad.reasons() == (words,)
