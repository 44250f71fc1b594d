"""An encoder that knows the truth is perfect in every measure, one that does not is not."""

import io
import json
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from small_faces import model
from torch import nn

from facerecon_lib.augmented.branch import AugmentedBranch, BaseBranch
from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
from facerecon_lib.evaluation import runs
from facerecon_lib.evaluation.evaluation import (
    AUGMENTED,
    ENCODER,
    FIT,
    MEAN,
    MEASURES,
    PIXELS,
    POSED,
    Evaluation,
    tone_pair,
)
from facerecon_lib.evaluation.runs import (
    evaluate_batches,
    evaluate_photos,
    evaluate_rendered,
    shard_photos,
)
from facerecon_lib.evaluation.surface import AREAS
from facerecon_lib.evaluation.tables import tables
from facerecon_lib.networks.backbones import EncoderError
from facerecon_lib.networks.encoder import Encoder
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.networks.unet import OffsetMaps
from facerecon_lib.photos.detection import ASSETS, detect
from facerecon_lib.photos.landmarks import DetectionError
from facerecon_lib.pictures.faces import to_uint8
from facerecon_lib.rendering.synthesis import project_dense, synthesise

COUNT = 6


@lru_cache
def faces() -> RenderedFaces:
    """Nothing but the face in the picture: the model can explain all of it."""
    return RenderedFaces(model(), seed=5, family="held-out", clean=True)


@lru_cache
def network():
    return load_network("dlib")


class Knowing(nn.Module):
    """Answers with what it is given, face after face; `change` makes it wrong."""

    name = "knowing.safetensors"

    def __init__(self, truth, change=lambda c: c):
        super().__init__()
        self.truth, self.change, self.asked, self.metadata = truth, change, 0, {"recipe": "none"}

    def forward(self, image):
        if not image.any():  # warming up
            return self.truth[:1]
        first, self.asked = self.asked, self.asked + len(image)
        return self.change(self.truth[first : self.asked].clone())


def base(encoder, light="encoder") -> BaseBranch:
    return BaseBranch(encoder, model(), light)


def knowing(change=lambda c: c) -> BaseBranch:
    return base(Knowing(faces().batch(torch.arange(COUNT)).truth, change))


@lru_cache
def perfect():
    judge = network()
    return evaluate_rendered(knowing(), faces(), COUNT, judge, batch=4, scans=2)


def json_of(evaluation: Evaluation) -> dict:
    return json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))


def test_an_encoder_that_knows_the_truth_is_right_in_every_measure():
    ours = perfect().values[ENCODER]
    assert set(MEASURES) - {"identity", "dense"} <= set(ours)
    limits = dict(vertex_mm=1e-3, vertex_mm_rigid=1e-3, scan_mm=1e-3, albedo_rgb=1e-5, ita=1e-2)
    for name, limit in limits.items():
        assert np.max(ours[name][: 2 if name == "scan_mm" else None]) < limit, name
    # what is left is the detector's noise, and the relief that long lenses take from the picture
    for name in ("landmark", "landmark_inner"):
        assert np.median(ours[name]) < 0.6 * np.median(perfect().values[MEAN][name])


def test_the_mean_face_is_worse_and_pose_alone_helps_landmarks_alone():
    encoder, mean, posed = (perfect().values[m] for m in (ENCODER, MEAN, POSED))
    for name in ("vertex_mm", "albedo_rgb", "ita"):
        assert np.median(encoder[name]) < 0.1 * np.median(mean[name])
        assert posed[name] == pytest.approx(mean[name], abs=1e-4)
    assert np.median(posed["landmark"]) < 0.5 * np.median(mean["landmark"])
    assert perfect().better(ENCODER, MEAN, "vertex_mm") == COUNT


def test_each_measure_sees_its_own_mistake_and_no_other():
    def changed(name, amount):
        def change(c):
            setattr(c, name, getattr(c, name) + amount)
            return c

        return evaluate_rendered(knowing(change), faces(), COUNT, batch=4, scans=1)

    right = perfect().values[ENCODER]
    turned = changed("rotation", torch.tensor([0.0, 0.0, 0.2])).values[ENCODER]
    assert np.median(turned["landmark"]) > 2 * np.median(right["landmark"])
    assert max(turned["vertex_mm"]) < 1e-3
    other = changed("identity", 0.5).values[ENCODER]
    assert min(other["vertex_mm"]) > 0.1
    assert other["scan_mm"][0] > 0.1
    assert max(other["albedo_rgb"]) < 1e-5
    skin = changed("albedo", 0.7).values[ENCODER]
    assert min(skin["albedo_rgb"]) > 0.01
    assert max(skin["vertex_mm"]) < 1e-3
    dim = changed("lighting", torch.tensor([-0.5] + 8 * [0.0])[:, None]).values[ENCODER]
    assert np.mean(dim["photometric"]) > np.mean(right["photometric"])
    assert max(dim["albedo_rgb"]) < 1e-5


def test_skin_that_is_too_light_is_off_by_a_positive_angle():
    light, dark = model().albedo(model().albedo_samples).mean((1, 2)).argsort()[[-1, 0]]
    for chosen, sign in ((light, 1), (dark, -1)):

        def painted(c, chosen=chosen):
            c.albedo = model().albedo_samples[chosen].expand(len(c), -1).clone()
            return c

        evaluation = evaluate_rendered(knowing(painted), faces(), COUNT, scans=0)
        bias = evaluation.summary(ENCODER, "ita_bias")["mean"]
        assert sign * bias > 10
        assert evaluation.summary(ENCODER, "ita")["mean"] >= abs(bias)


def test_the_jaw_counts_among_all_landmarks_and_not_among_the_inner():
    batch = faces().batch(torch.arange(COUNT))
    batch.landmarks[:, :17] += 10
    found = evaluate_batches(knowing(), [batch], "jaws").values[ENCODER]
    right = perfect().values[ENCODER]
    assert found["landmark_inner"] == pytest.approx(right["landmark_inner"], abs=1e-6)
    assert np.median(found["landmark"]) > np.median(right["landmark"]) + 0.01


def test_the_nearest_photo_is_looked_for_from_each_rendering():
    matrix = [[0.1, 0.9, 0.9], [0.05, 0.2, 0.9], [0.9, 0.9, 0.3]]  # 1 is nearer to photo 0
    found = replace(perfect(), distances={ENCODER: matrix})
    assert found.own_nearest(ENCODER) == [True, False, True]


def test_the_scan_is_of_the_face_at_rest():
    def laughing(c):
        c.expression = model().expression_from_controls({"jawOpen": 0.8}).expand(len(c), -1).clone()
        return c

    found = evaluate_rendered(knowing(laughing), faces(), 2, scans=1).values[ENCODER]
    assert found["scan_mm"][0] < 1e-3
    assert found["vertex_mm"][0] > 0.1


def test_batches_of_any_size_give_the_same_numbers_and_only_the_asked_for_scans():
    alone = evaluate_rendered(knowing(), faces(), COUNT, batch=1, scans=2)
    for method, measures in alone.values.items():
        for name, values in measures.items():
            expected = pytest.approx(perfect().values[method][name], abs=2e-3, nan_ok=True)
            assert values == expected, (method, name)
    assert alone.names == [f"seed 5 face {i}" for i in range(COUNT)]
    assert [math.isnan(x) for x in alone.values[ENCODER]["scan_mm"]] == [False] * 2 + [True] * 4
    assert alone.scan_to_mesh[ENCODER]["median"] < 1e-3 < alone.scan_to_mesh[MEAN]["median"]


def test_a_face_in_a_larger_picture_has_to_be_found(monkeypatch):
    photos = replace(faces(), clean=False, size=PHOTO_SIZE, margin=PHOTO_MARGIN)
    truth = photos.batch(torch.arange(3)).truth
    second = to_uint8(photos.batch(torch.tensor([1])).image[0])

    def all_but_one(photo):
        if np.array_equal(photo.pixels, second):
            raise DetectionError(f"{photo.name}: no face found in it; try another")
        return detect(photo)

    monkeypatch.setattr(runs, "detect", all_but_one)
    found = evaluate_rendered(base(Knowing(truth[torch.tensor([0, 2])])), photos, 3, scans=0)
    assert found.names == ["seed 5 face 0", "seed 5 face 2"]
    assert found.failures == {"seed 5 face 1": "no face found in it"}
    assert max(found.values[ENCODER]["vertex_mm"]) < 1e-3
    assert max(found.values[POSED]["landmark_inner"]) < 0.12  # the landmarks are of the crop


def test_without_a_network_identity_is_left_out():
    found = evaluate_rendered(knowing(), faces(), 1, None, scans=0)
    assert "identity" not in found.values[ENCODER]
    assert found.recognition is None
    assert "scan_mm" in found.values[ENCODER]
    assert found.scan_to_mesh == {}


def test_a_rendering_is_like_its_own_photo_and_the_mean_face_is_not():
    batches = (faces().batch(part) for part in torch.arange(COUNT).split(3))
    found = evaluate_batches(knowing(), batches, "six", network(), cross=True)
    ours, mean = (np.median(found.values[m]["identity"]) for m in (ENCODER, POSED))
    assert ours < 0.7 * mean
    matrix = np.array(found.distances[ENCODER])
    assert matrix.shape == (COUNT, COUNT)
    assert np.diag(matrix) == pytest.approx(found.values[ENCODER]["identity"], abs=1e-4)
    assert found.own_nearest(ENCODER).count(True) >= COUNT - 1
    assert found.own_nearest(POSED).count(True) < COUNT - 1


def test_what_hides_the_face_and_is_known_to_does_not_count():
    batch = faces().batch(torch.arange(COUNT))
    hand = torch.rand(COUNT, 3, 224, 100, generator=torch.Generator().manual_seed(0))
    batch.image[..., 120:, :100] = hand[..., 120:, :]
    errors = []
    for seen in (0.0, 1.0):
        valid = batch.valid.clone()
        valid[..., 120:, :100] = seen
        hidden = replace(batch, valid=valid)
        errors.append(evaluate_batches(knowing(), [hidden], "six", network()).values[ENCODER])
    known, unknown = errors
    right = perfect().values[ENCODER]
    assert np.median(known["photometric"]) < 1.3 * np.median(right["photometric"])
    assert np.median(unknown["photometric"]) > 2 * np.median(known["photometric"])
    assert np.median(unknown["identity"]) > 1.5 * np.median(known["identity"])


def test_a_face_that_covers_nothing_has_neither_colours_nor_identity():
    def away(c):
        c.translation = c.translation + torch.tensor([3000.0, 0, 0])
        return c

    found = evaluate_rendered(knowing(away), faces(), 2, network(), scans=0)
    for name in ("photometric", "identity"):
        assert all(math.isnan(x) for x in found.values[ENCODER][name])
    assert json_of(found)


def test_the_dictionary_is_plain_json_and_its_tables_agree_with_the_values():
    content = json_of(perfect())
    values = content["values"][MEAN]["vertex_mm"]
    row = content["summary"][MEAN]["vertex_mm"]
    assert row["all"]["count"] == COUNT
    assert row["all"]["median"] == pytest.approx(np.median(values))
    assert sum(group["count"] for group in row["by_tone"].values()) == COUNT
    by_hand = [v for v, t in zip(values, content["tones"], strict=True) if t == content["tones"][0]]
    pair = row["by_tone"][tone_pair(content["tones"][0])]
    assert pair["count"] >= len(by_hand)
    assert content["values"][ENCODER]["scan_mm"][-1] is None
    assert content["recipe"] == {"recipe": "none"}
    assert content["tones_source"] == "labels"


def test_tones_go_two_by_two():
    pairs = [tone_pair(tone) for tone in (1, 2, 3, 8, 9, 10)]
    assert pairs == ["1-2", "1-2", "3-4", "7-8", "9-10", "9-10"]


def text_of(evaluation: Evaluation, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables(evaluation):
        console.print(table)
    return console.export_text()


def test_tables_and_figure_show_every_measure_and_method():
    text = text_of(perfect(), 80)
    for name in perfect().values[ENCODER]:
        assert MEASURES[name][0] in text
    for word in (ENCODER, MEAN, POSED, "knowing.safetensors", f"{COUNT} rendered faces"):
        assert word in text
    assert "Monk tone of the true skin, unlit" in text
    assert "nan" not in text
    figure = perfect().figure()
    assert "the true shape" in figure.get_suptitle()
    assert len(figure.axes) == 4 * COUNT


def test_photos_with_and_without_a_face(tmp_path):
    blank, text = tmp_path / "blank.png", tmp_path / "text.jpg"
    Image.fromarray(np.full((120, 160, 3), 127, np.uint8)).save(blank)
    text.write_text("no picture")
    untrained = base(Encoder(model().sizes, "mobilenet_v3_large"))
    judge = network()
    paths = [blank, ASSETS / "astronaut.jpg", text]
    seen = []
    found = evaluate_photos(untrained, paths, judge, progress=seen.append)
    assert found.names == ["astronaut.jpg"]
    assert seen == [1]
    assert sorted(found.failures) == ["blank.png", "text.jpg"]
    assert "no face found" in found.failures["blank.png"]
    ours, mean, posed = (found.values[m]["landmark_inner"][0] for m in (ENCODER, MEAN, POSED))
    assert ours == pytest.approx(mean)  # an untrained encoder is the mean face
    assert posed < 0.5 * mean
    assert "vertex_mm" not in found.values[ENCODER]
    assert found.tones_source == "estimates"
    if judge is not None:
        assert np.shape(found.distances[ENCODER]) == (1, 1)
    with pytest.raises(DetectionError, match="no face in any of 2 photos"):
        evaluate_photos(untrained, [blank, text])


def test_there_has_to_be_a_face():
    with pytest.raises(ValueError, match="expected 1 face or more"):
        evaluate_rendered(knowing(), faces(), 0)
    with pytest.raises(DetectionError, match="no face to evaluate"):
        evaluate_batches(knowing(), [], "nothing")


def test_an_answer_that_is_no_number_is_named():
    def broken(c):
        if len(c) == 3:
            c.identity[1] = torch.nan
        return c

    with pytest.raises(EncoderError, match=r"knowing\.safetensors: seed 5 face 1: .* not finite"):
        evaluate_rendered(knowing(broken), faces(), 3)


def test_photos_of_shards_have_no_truth():
    batch = replace(faces().batch(torch.arange(2)), truth=None, tone=None)
    found = evaluate_batches(knowing(), [batch], "two")
    assert set(found.values[ENCODER]) == {"landmark", "landmark_inner", "photometric"}
    assert found.tones_source == "estimates"


def with_points(count=COUNT):
    """Faces as photos: without a truth, with the dense points where the truth has them."""
    batch = faces().batch(torch.arange(count))
    vertices = synthesise(model(), batch.truth).vertices
    points = project_dense(model(), vertices, batch.truth)
    return replace(batch, truth=None, tone=None, points=points), batch


def test_dense_points_are_where_the_truth_has_them_and_not_where_the_mean_face_has():
    batch, _ = with_points()
    found = evaluate_batches(knowing(), [batch], "six")
    assert max(found.values[ENCODER]["dense"]) < 1e-4
    assert min(found.values[POSED]["dense"]) > 0.02
    off = replace(batch, points=batch.points + 2.0)
    eyes = (batch.points[:, 263] - batch.points[:, 33]).norm(dim=-1)
    found = evaluate_batches(knowing(), [off], "six").values[ENCODER]["dense"]
    assert found == pytest.approx((8**0.5 / eyes).tolist(), rel=1e-3)


def test_the_unlit_skin_is_that_of_the_encoder_and_the_pixels_those_of_the_photo():
    batch, rendered = with_points()
    skin = evaluate_batches(knowing(), [batch], "six").skin
    assert set(skin) == {ENCODER, PIXELS}
    lightness, tone = skin[ENCODER]["lightness"], rendered.tone.numpy()
    assert np.corrcoef(lightness, tone)[0, 1] < -0.9
    dim = replace(batch, image=0.5 * batch.image)
    other = evaluate_batches(knowing(), [dim], "six").skin
    assert other[ENCODER] == skin[ENCODER]
    assert (np.divide(other[PIXELS]["lightness"], skin[PIXELS]["lightness"]) < 0.7).all()


def test_the_fit_has_nearer_points_than_the_encoder():
    def twisted(c):
        c.rotation = c.rotation + torch.tensor([0.0, 0.05, 0.05])
        return c

    batch, rendered = with_points(2)
    twice = replace(rendered.truth, rotation=rendered.truth.rotation.clone())

    class Twisting(Knowing):
        def forward(self, image):  # asked of a photo and of its mirror image
            return self.change(twice.clone())[: len(image)]

    found = evaluate_batches(base(Twisting(twice, twisted)), [batch], "two", fit=True)
    assert list(found.values) == [ENCODER, FIT, MEAN, POSED]
    ours, fitted = (np.array(found.values[m]["dense"]) for m in (ENCODER, FIT))
    assert (fitted < 0.7 * ours).all()
    assert set(found.skin) == {ENCODER, FIT, PIXELS}


def test_ranks_agree_where_the_lightest_skin_has_the_lowest_rating():
    names, skin = list("abcd"), {ENCODER: {"lightness": [80.0, 60, 40, 20], "ita": [1.0, 2, 3, 4]}}
    found = replace(perfect(), names=names, skin=skin, ratings=dict(a=1, b=3.5, d=9))
    assert found.rank_correlation(ENCODER, "lightness") == pytest.approx(1)
    assert found.rank_correlation(ENCODER, "ita") == pytest.approx(-1)
    for few in (dict(a=1, b=2), dict(a=4, b=4, c=4)):
        assert math.isnan(replace(found, ratings=few).rank_correlation(ENCODER, "ita"))


def test_ratings_have_their_tables_and_their_numbers():
    batch, _ = with_points()
    found = evaluate_batches(knowing(), [batch], "six")
    found.ratings = dict(zip(found.names, (2, 2.5, 4, 7, 7.4), strict=False))
    found.photos = True
    text = text_of(found, 140)
    for words in (
        "how people rate it: 5 photos",
        "2 (1)",
        "3 (1)",
        "7 (2)",
        PIXELS,
        "rated",
        "7.4",
    ):
        assert words in text
    assert "nan" not in text
    content = json_of(found)
    rank = found.rank_correlation(ENCODER, "ita")
    assert content["rank_correlation"][ENCODER]["ita"] == pytest.approx(rank)
    assert len(content["skin"][PIXELS]["lightness"]) == COUNT
    assert json_of(perfect())["rank_correlation"] == {}


def test_crops_of_shards_become_photos_named_by_their_keys():
    batch = replace(faces().batch(torch.arange(2)), names=["s-0.tar/a", "s-0.tar/b"])
    photos = shard_photos([batch])
    assert [photo.name for photo in photos] == ["a", "b"]
    assert np.array_equal(photos[1].pixels, to_uint8(batch.image[1]))


# The augmented branch ----------------------------------------------------------------------------


class Adding(nn.Module):
    """A U-Net's place: answers with maps that are given, or with maps that change nothing."""

    name = "adding.safetensors"

    def __init__(self, maps=None):
        super().__init__()
        self.maps, self.metadata, self.seen = maps, {}, []

    def forward(self, photo, rendering):
        self.seen.append(rendering)
        none = torch.zeros_like(photo)
        return OffsetMaps(none, none) if self.maps is None else self.maps


@lru_cache
def detailed() -> RenderedFaces:
    return RenderedFaces(model(), seed=9, family="held-out", clean=True, wrinkles=True)


def true_maps(batch) -> OffsetMaps:
    """What would have to be added, drawn at the pixels where it belongs."""
    face = synthesise(model(), batch.truth)
    missing = torch.cat([batch.true_albedo - face.albedo, batch.true_vertices - face.vertices], -1)
    drawn, mask = face.render(224, attributes=missing)
    return OffsetMaps(drawn[:, :3] * mask, drawn[:, 3:] * mask)


def with_detail(maps=None, encoder=None, light="encoder"):
    batch = detailed().batch(torch.arange(COUNT))
    unet = Adding(maps and maps(batch))
    branch = AugmentedBranch(unet, base(encoder or Knowing(batch.truth), light))
    return evaluate_rendered(branch, detailed(), COUNT, batch=COUNT, scans=2), unet


@lru_cache
def knowing_detail():
    return with_detail(true_maps)[0]


def test_maps_that_add_nothing_change_no_measure():
    found, _ = with_detail()
    assert list(found.values) == [ENCODER, AUGMENTED, MEAN, POSED]
    for name, values in found.values[ENCODER].items():
        assert found.values[AUGMENTED][name] == pytest.approx(values, abs=1e-4, nan_ok=True)
    assert max(found.offsets["displacement_mm"]) == 0
    assert all(math.isnan(v) for v in found.offsets["in nose"])
    assert max(found.offsets["relief_found"]) == 0


def test_maps_that_know_the_details_are_better_in_every_measure_of_them():
    """The encoder is right in all that the bases can say; the rest is the augmented branch's."""
    found = knowing_detail()
    encoder, augmented = (found.values[m] for m in (ENCODER, AUGMENTED))
    for name, share in dict(normal_deg=0.7, relief_mm=0.7, albedo_rgb=0.5, photometric=0.9).items():
        assert np.mean(augmented[name]) < share * np.mean(encoder[name]), name
    assert found.better(AUGMENTED, ENCODER, "albedo_rgb") >= COUNT - 1
    assert np.mean(augmented["scan_mm"][:2]) < np.mean(encoder["scan_mm"][:2])
    assert 0.4 < np.nanmedian(found.offsets["relief_found"]) < 1.1
    shares = [found.offsets[f"in {area}"] for area in AREAS]
    moved = np.array(found.offsets["displacement_mm"]) > 0  # some faces are smooth
    assert moved.sum() > COUNT / 2
    assert np.sum(shares, 0)[moved] == pytest.approx(1, abs=1e-4)
    assert 0.005 < np.median(found.offsets["texture"]) < 0.2


def test_the_truth_of_detailed_faces_has_their_details():
    """Else an encoder that knows all coefficients would be without error."""
    ours = knowing_detail().values[ENCODER]
    assert 0.1 < np.median(ours["normal_deg"]) < 3
    assert np.median(ours["relief_mm"]) > 0.01
    assert min(ours["albedo_rgb"]) > 0.001


def test_light_is_solved_once_for_both():
    """The U-Net sees the base in that light, and the augmented face stands in it as well."""
    dim = lambda c: replace(c, lighting=0.4 * c.lighting)  # noqa: E731
    truth = detailed().batch(torch.arange(COUNT)).truth
    errors, brightness = {}, {}
    for light in ("encoder", "photo"):
        found, unet = with_detail(encoder=Knowing(truth, dim), light=light)
        assert found.light == light
        errors[light] = found.values[ENCODER]["photometric"]
        assert found.values[AUGMENTED]["photometric"] == pytest.approx(errors[light], abs=1e-5)
        brightness[light] = float(unet.seen[0].mean())
    assert np.median(errors["photo"]) < 0.6 * np.median(errors["encoder"])
    assert brightness["photo"] > 1.5 * brightness["encoder"]


def test_the_light_is_that_of_the_branch():
    batch = detailed().batch(torch.arange(2))
    for light in ("encoder", "free", "grey", "known"):
        branch = AugmentedBranch(Adding(), base(Knowing(batch.truth), light))
        assert evaluate_batches(branch, [batch], "two").light == light
    with pytest.raises(ValueError, match="light 'candle'"):
        base(Knowing(batch.truth), "candle")


def test_another_albedo_basis_is_judged_by_the_true_skin():
    """Skins that the light basis does not have: its error is the encoder's, not the truth's."""
    batch = detailed().batch(torch.arange(COUNT))
    branch = BaseBranch(Knowing(batch.truth), model(albedo="light"), "free")
    found = evaluate_batches(branch, [batch], "six")
    assert found.tones == batch.tone.tolist()
    dark = np.array(found.tones) >= 7
    bias = np.array(found.values[ENCODER]["albedo_rgb"])
    assert 0 < dark.sum() < COUNT
    assert bias[dark].mean() > bias[~dark].mean()


def test_tables_json_and_figure_show_the_augmented_branch():
    text = text_of(knowing_detail(), 120)
    for word in ("augmented", "adding.safetensors", "wrinkles found", "lower jaw", "recovered"):
        assert word in text
    assert "nan" not in text
    content = json_of(knowing_detail())
    assert content["detail"] == "adding.safetensors"
    assert content["light"] == "encoder"
    assert content["augmented_better"]["albedo_rgb"] >= COUNT - 1
    assert len(content["offsets"]["in cheeks"]) == COUNT
    assert sum(content["area_shares"].values()) == pytest.approx(1)
    plain = json_of(perfect())
    assert (plain["detail"], plain["offsets"], plain["augmented_better"]) == (None, {}, {})
    figure = knowing_detail().figure()
    assert len(figure.axes) == 6 * COUNT
    assert "augmented" in figure.get_suptitle()
    pictures = [axis.images[0].get_array() for axis in figure.axes[:6]]
    _, base, augmented, base_shape, shape, true = pictures
    assert (base != augmented).any()
    off = lambda a, b: np.abs(a.astype(float) - b.astype(float)).mean()  # noqa: E731
    assert off(shape, true) < off(base_shape, true)
