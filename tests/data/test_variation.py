"""Photos in other light: the same at every call, from what the settings say, landmarks and all."""

import pytest
import torch

from facerecon_lib.data.rendered.counted_random import CountedRandom
from facerecon_lib.data.shards import variation
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.shards.variation import tone_tables, varied
from facerecon_lib.face.batch import FaceBatch
from facerecon_lib.face.colour import srgb_to_linear

MANY = CountedRandom(3, torch.arange(4000))
SPREADS = ("EXPOSURE", "WHITE_BALANCE", "GAMMA")


def photos(names: list[str]) -> FaceBatch:
    g = torch.Generator().manual_seed(5)
    n = len(names)
    image = torch.randint(0, 256, (n, 3, 224, 224), generator=g) / 255
    valid = (torch.rand(n, 1, 224, 224, generator=g) > 0.5).float()
    return FaceBatch(image, valid, 224 * torch.rand(n, 68, 2, generator=g), "2d", names)


@pytest.fixture
def alone(monkeypatch):
    """Leaves one kind of variation."""

    def leave(name: str | None) -> None:
        for other in SPREADS:
            if other != name:
                monkeypatch.setattr(variation, other, 0.0)

    return leave


def test_key_epoch_and_seed_decide_and_neither_shard_nor_neighbours_do():
    names = [f"photos-00000.tar/p{i}" for i in range(4)]
    whole = varied(photos(names), 0, 2)
    part = photos(names)
    part.names = [name.replace("photos-00000.tar", "other.tar") for name in names]
    part = varied(part[2:], 0, 2)
    for name in ("image", "valid", "landmarks"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[2:])
    for seed, epoch in ((1, 2), (0, 3)):
        assert not torch.equal(varied(photos(names), seed, epoch).image, whole.image)


def test_mirrored_photos_have_mirrored_landmarks():
    names = [f"p{i}" for i in range(40)]
    before = photos(names)
    after = varied(before, 0, 0)
    flipped = (after.valid != before.valid).flatten(1).any(1)
    assert 10 < flipped.sum() < 30
    assert torch.equal(after.valid[flipped], before.valid[flipped].flip(-1))
    assert torch.equal(after.landmarks[~flipped], before.landmarks[~flipped])
    old, new = before.landmarks[flipped], after.landmarks[flipped]
    for point, twin in ((0, 16), (36, 45), (48, 54), (30, 30), (60, 64)):
        assert torch.equal(
            new[:, point], torch.tensor([224.0, 0]) + old[:, twin] * torch.tensor([-1.0, 1])
        )


def test_without_spread_pixels_stay(alone):
    alone(None)
    before = photos(["a", "b", "c"])
    after = varied(before, 0, 0)
    for old, new in zip(before.image, after.image, strict=True):
        assert min((new - old).abs().max(), (new - old.flip(-1)).abs().max()) < 1e-5


def test_exposure_multiplies_linear_light(alone):
    alone("EXPOSURE")
    tables = tone_tables(MANY)
    assert torch.equal(tables[:, 0], tables[:, 2])
    light = srgb_to_linear(torch.arange(256) / 255)
    gain = srgb_to_linear(tables[:, 0, 60]) / light[60]
    assert gain.log().std().item() == pytest.approx(0.35, rel=0.05)
    assert gain.log().mean().abs() < 0.02
    expected = (gain[:, None] * light).clamp(max=1)
    torch.testing.assert_close(srgb_to_linear(tables[:, 0]), expected, atol=1e-4, rtol=1e-3)


def test_white_balance_turns_about_grey(alone):
    alone("WHITE_BALANCE")
    light = srgb_to_linear(tone_tables(MANY)[..., 60]).log()
    grey = srgb_to_linear(torch.tensor(60 / 255)).log()
    torch.testing.assert_close(light.mean(1), grey.expand(len(light)), atol=1e-3, rtol=0)
    apart = light[:, 0] - light[:, 1]
    assert apart.std().item() == pytest.approx(0.12 * 2**0.5, rel=0.05)


def test_gamma_is_an_exponent(alone):
    alone("GAMMA")
    tables = tone_tables(MANY)[:, 1]
    gamma = tables[:, 100].log() / torch.tensor(100 / 255).log()
    assert gamma.log().std().item() == pytest.approx(0.12, rel=0.05)
    assert torch.equal(tables[:, 0], torch.zeros(len(tables)))


def test_a_reader_varies_otherwise_in_each_epoch_and_resumes_in_the_middle(shards):
    reader = PhotoShards(shards, 4, vary=True)
    pairs = [
        {n: image for batch in reader for n, image in zip(batch.names, batch.image, strict=True)}
        for _ in range(2)
    ]
    assert pairs[0].keys() == pairs[1].keys()
    assert not any(torch.equal(image, pairs[1][name]) for name, image in pairs[0].items())
    first = PhotoShards(shards, 4, vary=True)
    stream = iter(first)
    next(stream)
    again = PhotoShards(shards, 4, vary=True)
    again.load_state_dict(first.state_dict())
    assert torch.equal(next(iter(again)).image, next(stream).image)
