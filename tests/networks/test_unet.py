"""The double-head U-Net: what it answers untrained, which parts the heads share, and its files."""

import copy
import re
from functools import lru_cache

import pytest
import torch
from safetensors import safe_open

from facerecon_lib.files import weights as weight_files
from facerecon_lib.networks.unet import (
    DISPLACEMENT_SCALE,
    NORMS,
    TEXTURE_SCALE,
    DoubleHeadUNet,
    OffsetMaps,
    UNetError,
    load_unet,
    save_unet,
)


@lru_cache
def trained(norm: str = "group") -> DoubleHeadUNet:
    """A small U-Net with numbers in every layer. Not to be changed: copy it."""
    torch.manual_seed(1)
    unet = DoubleHeadUNet(8, 3, norm)
    with torch.no_grad():
        for head in (unet.texture, unet.displacement):
            torch.nn.init.normal_(head.last.weight)
            torch.nn.init.normal_(head.last.bias)
        unet.train()(*pictures(4))  # statistics that are not 0 and 1
    return unet.eval()


def pictures(count: int = 2, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos and renderings."""
    draw = torch.Generator().manual_seed(2)
    return tuple(torch.rand(count, 3, size, size, generator=draw) for _ in range(2))


# The network -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_untrained_its_maps_are_zero_and_every_layer_learns_within_two_steps(norm):
    unet = DoubleHeadUNet(8, 3, norm)
    before = copy.deepcopy(unet.state_dict())
    optimizer = torch.optim.SGD(unet.parameters(), 1.0)
    for step in range(2):  # the first moves only the last layers, since they are zero
        maps = unet(*pictures())
        assert isinstance(maps, OffsetMaps)
        if step == 0:
            assert all(m.shape == (2, 3, 32, 32) and not m.any() for m in maps)
        optimizer.zero_grad()
        sum((m - 1).square().mean() for m in maps).backward()
        optimizer.step()
    still = [name for name, p in unet.named_parameters() if torch.equal(p, before[name])]
    assert still == []


def test_the_pictures_size_is_kept_whatever_the_depth():
    for depth, size in ((3, 8), (4, 48), (5, 64)):
        maps = DoubleHeadUNet(8, depth)(*pictures(1, size))
        assert maps.texture.shape == maps.displacement.shape == (1, 3, size, size)


def test_the_heads_part_after_the_second_up_sampling_block():
    unet = copy.deepcopy(trained())
    unet.depth, plain = 3, trained()(*pictures())
    moved = {name: p for name, p in unet.named_parameters() if name.startswith("texture.")}
    with torch.no_grad():
        for p in moved.values():
            p.mul_(1.5)
    one = unet(*pictures())
    assert torch.equal(one.displacement, plain.displacement)
    assert not torch.allclose(one.texture, plain.texture)

    for name in ("down.0.0.weight", "shared.0.halve.weight", "shared.1.merge.3.weight"):
        both = copy.deepcopy(trained())
        with torch.no_grad():
            both.get_parameter(name).mul_(-1)
        other = both(*pictures())
        assert not torch.allclose(other.texture, plain.texture)
        assert not torch.allclose(other.displacement, plain.displacement)
    assert len(DoubleHeadUNet(8, 4).shared) == 2
    assert [len(DoubleHeadUNet(8, depth).texture.up) for depth in (4, 5)] == [2, 3]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_each_skip_reaches_both_maps(level):
    """Cut off from all that lies deeper, a level of the way down still moves the maps."""
    unet, skips = copy.deepcopy(trained()), []
    unet.down[level].register_forward_hook(lambda *call: skips.append(call[-1]))
    for head in (unet.texture, unet.displacement):
        torch.nn.init.zeros_([*head.up, *reversed(unet.shared)][level].halve.weight)
    for m in unet(*pictures()):
        (slope,) = torch.autograd.grad(m.square().sum(), skips[0], retain_graph=True)
        assert slope.abs().max() > 0


def test_an_output_of_1_is_a_tenth_of_colour_and_a_millimetre():
    unet = copy.deepcopy(trained())
    for head in (unet.texture, unet.displacement):
        torch.nn.init.zeros_(head.last.weight)
        torch.nn.init.ones_(head.last.bias)
    maps = unet(*pictures())
    assert TEXTURE_SCALE == 0.1
    assert DISPLACEMENT_SCALE == 1.0
    torch.testing.assert_close(maps.texture, torch.full((2, 3, 32, 32), 0.1))
    torch.testing.assert_close(maps.displacement, torch.full((2, 3, 32, 32), 1.0))


def test_photo_and_rendering_are_told_apart():
    photo, rendering = pictures()
    one, other = trained()(photo, rendering), trained()(rendering, photo)
    assert not torch.allclose(one.texture, other.texture)


def test_a_slope_stays_a_slope_when_the_picture_doubles():
    """No checkerboard and no steps: between the small picture's pixels lies what is between."""
    block = copy.deepcopy(trained().texture.up[0])
    torch.nn.init.ones_(block.halve.weight)
    slopes = []
    block.merge.register_forward_pre_hook(lambda _, given: slopes.append(given[0][0, -1]))
    line = torch.arange(8.0).expand(1, 16, 8, 8)
    block(line + 10 * line.mT, torch.zeros(1, 8, 16, 16))
    inside = slopes[0][1:-1, 1:-1]
    torch.testing.assert_close(inside.diff(dim=1), torch.full((14, 13), 8.0))  # 16 channels / 2
    torch.testing.assert_close(inside.diff(dim=0), torch.full((13, 14), 80.0))


def test_maps_are_float32_whatever_the_network_runs_in():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = trained()(*pictures())
    with torch.no_grad():
        full = trained()(*pictures())
    for a, b in zip(half, full, strict=True):
        assert a.dtype == torch.float32
        assert a.is_contiguous()
        assert not torch.equal(a, b)
        assert (a - b).abs().max() < 0.05 * b.abs().max()


@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_normalisation_in_training_knows_the_other_photos(norm):
    unet = copy.deepcopy(trained(norm))
    photo, rendering = pictures(3)
    for training in (False, True):
        unet.train(training)
        with torch.no_grad():
            alone = unet(photo[:1], rendering[:1]).texture
            among = unet(photo, rendering).texture[:1]
        same = torch.allclose(alone, among, atol=1e-5)
        assert same == (norm != "batch" or not training)


@pytest.mark.parametrize("norm", NORMS)
def test_how_large_a_difference_is_only_inner_does_not_normalise_away(norm):
    """Twice the difference is twice as much in the outermost skip and where it is read."""
    unet = DoubleHeadUNet(8, 3, norm)
    x, deep = torch.cat(pictures(), 1), torch.rand(2, 16, 16, 16)
    skip = unet.down[0](x)
    answers = [(unet.down[0](2 * x), skip)]
    for head in (unet.texture, unet.displacement):
        answers.append((head.up[-1](2 * deep, 2 * skip), head.up[-1](deep, skip)))
    for double, single in answers:
        assert torch.allclose(double, 2 * single, atol=1e-5) == (norm == "inner")


def test_no_layer_is_dead_at_the_start():
    """Every channel of every block answers some photo, whatever the seed."""
    for seed in range(5):
        torch.manual_seed(seed)
        unet, said = DoubleHeadUNet(8, 3), []
        blocks = [*unet.down, *unet.shared, *unet.texture.up, *unet.displacement.up]
        for block in blocks:
            block.register_forward_hook(lambda *call, said=said: said.append(call[-1]))
        with torch.no_grad():
            unet(*pictures(4))
        assert len(said) == len(blocks)
        alive = torch.cat([(x.amax((0, 2, 3)) > 0).float() for x in said])
        assert alive.mean() > 0.9
        scales = [x.std().item() for x in said]
        assert min(scales) > 0.05


def test_a_smaller_width_is_a_smaller_network():
    counts = [sum(p.numel() for p in DoubleHeadUNet(w).parameters()) for w in (8, 16)]
    assert counts[1] > 3.5 * counts[0]
    assert 2 * counts[1] < 8e6  # bytes in float16: what may ship


@pytest.mark.gpu
def test_on_cuda_it_says_the_same_and_nobody_waits():
    unet, photo = copy.deepcopy(trained()).cuda(), [x.cuda() for x in pictures()]
    with torch.no_grad():
        ours, _ = trained()(*pictures()), unet(*photo)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        maps = unet(*photo)
        (maps.texture.sum() + maps.displacement.sum()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(maps, ours, strict=True):
        assert (a.cpu() - b).abs().max() < 0.02 * b.abs().max()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 12}, "width: expected a multiple of 8, got 12"),
        ({"width": 0}, "width: expected a multiple of 8, got 0"),
        ({"depth": 2}, "depth: expected 3 or more, got 2"),
        ({"norm": "layer"}, "norm 'layer': expected inner, group, batch"),
    ],
)
def test_what_it_cannot_be_built_as_is_refused(settings, words):
    with pytest.raises(UNetError, match=words):
        DoubleHeadUNet(**settings)


SQUARE = "(batch, 3, size, size), got"
DIVIDED = "floating point, of a size that 8 divides, such as 224; got"


@pytest.mark.parametrize(
    ("photo", "says"),
    [
        (torch.rand(1, 3, 36, 36), f"{DIVIDED} (1, 3, 36, 36), torch.float32"),
        (torch.rand(1, 3, 32, 40), f"{SQUARE} (1, 3, 32, 40)"),
        (torch.rand(1, 1, 32, 32), f"{SQUARE} (1, 1, 32, 32)"),
        (torch.rand(3, 32, 32), f"{SQUARE} (3, 32, 32)"),
        (torch.rand(1, 3, 0, 0), f"{DIVIDED} (1, 3, 0, 0), torch.float32"),
        (torch.zeros(1, 3, 32, 32).byte(), f"{DIVIDED} (1, 3, 32, 32), torch.uint8"),
    ],
)
def test_a_photo_that_does_not_fit_is_refused(photo, says):
    with pytest.raises(ValueError, match=re.escape(f"photo: expected {says}")):
        trained()(photo, photo)


def test_a_rendering_unlike_the_photo_is_refused():
    photo, rendering = pictures()
    with pytest.raises(ValueError, match=r"rendering: expected \(2, .*, got \(1, 3, 32, 32\)"):
        trained()(photo, rendering[:1])
    with pytest.raises(ValueError, match=r"rendering: expected .*float32.*got.*float64"):
        trained()(photo, rendering.double())


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("store", weight_files.STORES)
def test_what_is_saved_comes_back(store, norm, tmp_path):
    path = tmp_path / "u.safetensors"
    save_unet(path, trained(norm), {"model": "m", "albedo": "light", "space": "uv"}, store)
    again = load_unet(path)
    assert (again.width, again.depth, again.norm) == (8, 3, norm)
    assert again.name == "u.safetensors"
    assert not again.training
    assert again.metadata["albedo"] == "light"
    assert again.metadata["space"] == "uv"
    with torch.no_grad():
        for a, b in zip(again(*pictures()), trained(norm)(*pictures()), strict=True):
            assert a.dtype == torch.float32
            assert torch.equal(a, b) == (store == "float32")
            assert (a - b).abs().max() < 0.02 * b.abs().max()
    save_unet(tmp_path / "again.safetensors", again, store=store)  # nothing is lost on the way
    assert load_unet(tmp_path / "again.safetensors").metadata == again.metadata


def test_float16_is_half_the_size_and_leaves_gains_and_counters_alone(tmp_path):
    for store in weight_files.STORES:
        save_unet(tmp_path / store, trained("batch"), store=store)
    half, full = ((tmp_path / s).stat().st_size for s in ("float16", "float32"))
    assert half < 0.6 * full
    with safe_open(tmp_path / "float16", "pt") as file:
        kinds = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    assert kinds["down.0.0.weight"] == torch.float16
    assert kinds["down.1.1.weight"] == kinds["down.1.1.running_var"] == torch.float32
    assert kinds["down.1.1.num_batches_tracked"] == torch.int64


def test_the_default_is_float16_and_ships_within_8_megabytes(tmp_path):
    save_unet(tmp_path / "u", DoubleHeadUNet())
    assert (tmp_path / "u").stat().st_size < 8e6
