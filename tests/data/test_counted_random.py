"""Numbers that depend on seed, name, index and position alone, and look like chance."""

import math
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facerecon_lib.data.rendered import counted_random
from facerecon_lib.data.rendered.counted_random import CountedRandom

SEEDS = st.integers(-(2**63), 2**64)
INDICES = st.lists(st.integers(0, 2**62), min_size=1, max_size=6)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)

GOLDEN_ROTATION = [[12147001, 13870717, 12404201], [8305327, 9209565, 6369837]]
GOLDEN_NORMAL = [[0.59481871, 0.94143558, 0.64133662], [-0.01244306, 0.12296565, -0.30634269]]
GOLDEN_SKIN, GOLDEN_BALD = [306, 136], [1.0, 1.0]
GOLDEN_MINUS = [[[10601213, 354099], [4419159, 10964763]]]


def numbers(seed: int = 3, indices=(17, 4)) -> CountedRandom:
    return CountedRandom(seed, torch.as_tensor(indices))


def halves(value: torch.Tensor) -> list:
    """Uniform numbers as the whole 2^-24ths that they are."""
    return (value.double() * 2**24).long().tolist()


def by_hand(seed: int, name: str, index: int, position: int) -> int:
    """The same hash over Python's own integers, in 2^-24ths."""

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    golden = 0x9E3779B97F4A7C15
    key = mix((mix(seed % 2**64) + zlib.crc32(name.encode()) * golden) % 2**64)
    face = mix((index * golden + key) % 2**64)
    return 2 * (mix((face + position * golden) % 2**64) >> 41) + 1


# Always the same --------------------------------------------------------------------------------


def test_splitmix64_is_the_published_one():
    """The first outputs of seed 0, as its authors' C code prints them."""
    golden = 0x9E3779B97F4A7C15
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    states = [counted_random._signed(i * golden) for i in (1, 2, 3)]
    found = counted_random._mix(torch.tensor(states)).tolist()
    assert [z % 2**64 for z in found] == expected


def test_face_17_of_seed_3_stays_as_it_is():
    """Shipped weights were trained on these faces; notebooks show them."""
    n = numbers()
    assert halves(n.uniform("rotation", 3)) == GOLDEN_ROTATION
    torch.testing.assert_close(n.normal("rotation", 3), torch.tensor(GOLDEN_NORMAL))
    assert n.integer("skin", 1000).tolist() == GOLDEN_SKIN
    assert n.chance("bald", 0.5).tolist() == GOLDEN_BALD
    assert halves(CountedRandom(-1, torch.tensor([0])).uniform("x y", 2, 2)) == GOLDEN_MINUS


@given(SEEDS, st.text(max_size=12), INDICES, SHAPES)
def test_every_number_is_the_hash_of_where_it_stands(seed, name, indices, shape):
    found = halves(numbers(seed, indices).uniform(name, *shape).flatten(1))
    for index, row in zip(indices, found, strict=True):
        assert row == [by_hand(seed, name, index, p) for p in range(math.prod(shape))]


@given(SEEDS, INDICES, st.data())
def test_a_face_is_the_same_in_any_batch(seed, indices, data):
    order = data.draw(st.permutations(range(len(indices))))
    part = order[: data.draw(st.integers(1, len(order)))]
    whole = numbers(seed, indices)
    some = numbers(seed, [indices[i] for i in part])
    for draw in (
        lambda n: n.uniform("a", 2, 3, low=-4, high=9),
        lambda n: n.normal("b", 5, sd=0.3),
        lambda n: n.chance("c", 0.4),
        lambda n: n.integer("d", 7),
    ):
        assert torch.equal(draw(some), draw(whole)[part])


def test_what_was_asked_for_before_changes_nothing(monkeypatch):
    alone = [numbers().uniform("late", 3), numbers().normal("large", 5000)]
    for history in ([], [("early", (2,))], [("late", (3,)), ("early", (2, 2)), ("late", (1,))]):
        monkeypatch.setattr(counted_random, "_small", {})
        for name, shape in history:  # of earlier batches
            numbers(9, [1]).uniform(name, *shape)
        n = numbers()
        n.uniform("another")
        assert torch.equal(n.normal("large", 5000), alone[1])
        assert torch.equal(n.uniform("late", 3), alone[0])
        assert torch.equal(n.uniform("late", 3), alone[0])  # and again


def test_what_is_hashed_ahead_stays_small(monkeypatch):
    monkeypatch.setattr(counted_random, "_small", {})
    numbers().normal("grain of a pixel", 3, 224, 224)
    numbers().normal("noise", 2, 3)
    assert list(counted_random._small) == [("noise", (2, 3))]


def test_drawing_leaves_what_it_drew_from_as_it_was():
    n = numbers()
    first = n.uniform("a", 4).clone()
    n.normal("a", 4)
    n.uniform("a", 4, low=1, high=5)
    assert torch.equal(n.uniform("a", 4), first)
    assert torch.equal(n.indices, torch.tensor([17, 4]))


def test_indices_of_any_whole_kind_mean_the_same():
    wide = numbers().uniform("a", 4)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        narrow = CountedRandom(3, torch.tensor([17, 4], dtype=dtype))
        assert torch.equal(narrow.uniform("a", 4), wide)


def test_torchs_own_random_state_is_neither_read_nor_moved():
    before = torch.get_rng_state()
    one = numbers().normal("a", 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert torch.equal(numbers().normal("a", 3), one)


@pytest.mark.gpu
def test_uniform_numbers_are_the_same_to_the_bit_on_cuda():
    here, there = numbers(), CountedRandom(3, torch.tensor([17, 4], device="cuda"))
    assert torch.equal(there.uniform("a", 500).cpu(), here.uniform("a", 500))
    torch.testing.assert_close(there.normal("a", 500).cpu(), here.normal("a", 500))


# What is drawn looks like chance ----------------------------------------------------------------

STREAMS = {  # one number of each of many faces, one face's many numbers, and so on
    "faces": lambda: numbers(3, range(40_000)).uniform("x"),
    "faces far on": lambda: numbers(3, range(10**9, 10**9 + 40_000)).uniform("x"),
    "positions": lambda: numbers(3, [5]).uniform("x", 40_000)[0],
    "seeds": lambda: torch.cat([numbers(s, [0]).uniform("x") for s in range(1_500)]),
    "names": lambda: torch.cat([numbers(0, [0]).uniform(f"lamp {i}") for i in range(1_500)]),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_numbers_are_spread_evenly_and_know_nothing_of_their_neighbours(stream, monkeypatch):
    monkeypatch.setattr(counted_random, "_small", {})  # names that nobody else asks for
    x = STREAMS[stream]().double()
    assert stats.kstest(x, "uniform").pvalue > 1e-3
    low_bits = (x * 2**23).long() % 16
    assert stats.chisquare(torch.bincount(low_bits, minlength=16)).pvalue > 1e-3
    for lag in (1, 2, 3, 64):
        correlation = torch.corrcoef(torch.stack([x[lag:], x[:-lag]]))[0, 1]
        assert abs(correlation) < 4 / len(x) ** 0.5, lag


@pytest.mark.parametrize(
    ("seed", "name", "shift"), [(3, "y", 0), (4, "x", 0), (3, "x", 1), (3, "xx", 0), (-3, "x", 0)]
)
def test_other_names_seeds_and_faces_are_other_numbers(seed, name, shift):
    x = numbers(3, range(20_000)).normal("x")
    y = numbers(seed, range(shift, shift + 20_000)).normal(name)
    assert (x == y).float().mean() < 0.001
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 4 / 20_000**0.5


def test_normal_numbers_are_normal():
    x = numbers(3, range(40_000)).normal("x", sd=2.5)
    assert stats.kstest(x.double() / 2.5, "norm").pvalue > 1e-3
    assert torch.isfinite(x).all()


def test_the_first_and_the_last_of_all_bits_stay_inside(monkeypatch):
    uncached = counted_random._layout.__wrapped__
    monkeypatch.setattr(counted_random, "_layout", uncached)
    for bits, value in ((0, 2**-24), (-1, 1 - 2**-24)):
        monkeypatch.setattr(counted_random, "_small", {})
        monkeypatch.setattr(counted_random, "_mix", lambda z, b=bits: torch.full_like(z, b))
        assert float(numbers().uniform("a")[0]) == value
        assert abs(float(numbers().normal("a")[0])) > 5  # and finite
        assert math.isfinite(float(numbers().normal("a")[0]))
        assert numbers().integer("a", 3).tolist() == [0 if bits == 0 else 2] * 2


@given(st.floats(-100, 100), st.floats(0, 50))
def test_uniform_numbers_lie_between_their_ends(low, span):
    x = numbers(1, range(200)).uniform("x", low=low, high=low + span)
    slack = 1e-5 * (1 + abs(low) + span)
    assert low - slack <= x.min() <= x.max() <= low + span + slack
    assert x.max() - x.min() >= 0.9 * span - 2 * slack


@pytest.mark.parametrize("probability", [0.0, 0.12, 0.5, 1.0])
def test_chance_comes_as_often_as_asked(probability):
    x = numbers(3, range(20_000)).chance("x", probability)
    assert set(x.tolist()) <= {0.0, 1.0}
    slack = 4 * (probability * (1 - probability) / 20_000) ** 0.5
    assert abs(float(x.mean()) - probability) <= slack


def test_integers_come_all_and_alike():
    x = numbers(3, range(20_000)).integer("x", 7)
    assert x.dtype == torch.int64
    assert stats.chisquare(torch.bincount(x, minlength=7)).pvalue > 1e-3
    assert numbers().integer("x", 1).tolist() == [0, 0]


# Shapes and refusals ----------------------------------------------------------------------------


def test_shapes():
    n = numbers()
    assert n.uniform("a").shape == n.normal("a").shape == n.chance("a", 0.5).shape == (2,)
    assert n.uniform("a", 1).shape == (2, 1)
    assert n.normal("a", 4, 5, 6).shape == (2, 4, 5, 6)
    assert torch.equal(n.uniform("a", 6).view(2, 2, 3), n.uniform("a", 2, 3))
    assert torch.equal(n.uniform("a", 6)[:, :4], n.uniform("a", 4))
    assert CountedRandom(3, torch.zeros(0, dtype=torch.long)).normal("a", 4).shape == (0, 4)


def test_refusals():
    for wrong in (torch.tensor(3), torch.zeros(2, 2).long(), torch.rand(2), torch.tensor([True])):
        with pytest.raises(ValueError, match="indices: expected whole numbers in one row"):
            CountedRandom(3, wrong)
    with pytest.raises(ValueError, match="below: expected 1 or more, got 0"):
        numbers().integer("a", 0)
