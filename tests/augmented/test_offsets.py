"""Maps to offsets: own reading where seen, the mirror vertex's where not, no step between."""

from itertools import pairwise

import pytest
import torch
from small_faces import model, pixels, turned

from facerecon_lib.augmented.map_sampling import sample_bilinear
from facerecon_lib.augmented.offsets import VertexOffsets, sample_offsets
from facerecon_lib.augmented.uv_space import unwrap, uv_layout
from facerecon_lib.face.mesh import edges, neighbour_mean
from facerecon_lib.networks.unet import OffsetMaps
from facerecon_lib.rendering.synthesis import Face, synthesise
from facerecon_lib.rendering.visibility import visible_vertices

FLIP = torch.tensor([-1.0, 1.0, 1.0])


def plain(texture=(0.0, 0.0, 0.0), displacement=(0.0, 0.0, 0.0), batch: int = 1) -> OffsetMaps:
    """Maps that say the same everywhere."""
    values = torch.tensor([texture, displacement])[:, None, :, None, None]
    return OffsetMaps(*values.expand(-1, batch, -1, 224, 224).clone())


def waves(batch: int = 1, size: int = 224) -> OffsetMaps:
    """Smooth maps that say something else everywhere."""
    draw = torch.Generator().manual_seed(5)
    coarse = torch.randn(2, batch, 3, 8, 8, generator=draw)
    fine = [torch.nn.functional.interpolate(c, size, mode="bicubic") for c in coarse]
    return OffsetMaps(0.1 * fine[0], fine[1])


def inner(seen: torch.Tensor) -> torch.Tensor:
    """(B, V) True three rings inside of what is seen: beyond every blend at the native density."""
    for _ in range(3):
        seen = seen * (neighbour_mean(seen[..., None], model().faces)[..., 0] > 0.999)
    return seen > 0


def rings(face: Face, away: int) -> torch.Tensor:
    """(B, V) True for vertices that are hidden on both sides, `away` rings from any that is not."""
    seen = visible_vertices(face)
    return beyond(torch.maximum(seen, seen[:, face.model.mirror]), away)


def beyond(seen: torch.Tensor, away: int) -> torch.Tensor:
    """(B, V) True more than `away` rings from what is seen."""
    near = seen[..., None]
    for _ in range(away):
        near = torch.maximum(near, (neighbour_mean(near, model().faces) > 0).float())
    return near[..., 0] == 0


# Who takes what ----------------------------------------------------------------------------------


def test_who_is_seen_on_both_sides_takes_what_he_reads():
    """Away from any border: on the frontal face, everything that shows."""
    face, maps = turned(0), waves()
    offsets = sample_offsets(maps, face)
    assert isinstance(offsets, VertexOffsets)
    seen = visible_vertices(face)
    assert torch.equal(offsets.seen, seen)
    points = pixels(face)
    well = inner(seen)
    assert well.sum() > 500
    for got, m in ((offsets.texture, maps.texture), (offsets.displacement, maps.displacement)):
        torch.testing.assert_close(got[well], sample_bilinear(m, points)[well])


@pytest.mark.parametrize("yaw", [45.0, -45.0])
def test_who_is_hidden_takes_his_mirror_vertexs_reading_with_x_negated(yaw):
    face, maps = turned(yaw), waves()
    seen = visible_vertices(face)[0] > 0
    offsets = sample_offsets(maps, face)
    points = pixels(face)
    mirror = model().mirror
    hidden = ~seen & inner(visible_vertices(face))[0, mirror]
    assert hidden.sum() > 200
    for name, sign in (("texture", 1), ("displacement", FLIP)):
        theirs = sign * sample_bilinear(getattr(maps, name), points)[0, mirror]
        torch.testing.assert_close(getattr(offsets, name)[0, hidden], theirs[hidden])
    assert not offsets.seen[0, hidden].any()


def test_a_hidden_vertex_reads_nothing_of_what_lies_before_it():
    """No texel of the map changes anything at the hidden vertices that fall into it."""
    face = turned(45)
    seen = visible_vertices(face)
    texture = torch.zeros(1, 3, 224, 224, requires_grad=True)
    maps = OffsetMaps(texture, torch.zeros(1, 3, 224, 224))
    read = sample_offsets(maps, face).texture.sum()
    (felt,) = torch.autograd.grad(read, texture)
    points = pixels(face)
    direct = (sample_bilinear(texture, points) * seen[..., None]).sum()
    (reach,) = torch.autograd.grad(direct, texture)
    assert (felt[reach == 0] == 0).all()
    assert (felt > 0).sum() > 1000


def test_a_plain_map_gives_all_who_are_seen_or_mirrored_the_whole_of_it():
    face = turned(0.0, 45.0, jaw=0.5)
    colour = (0.1, -0.2, 0.05)
    offsets = sample_offsets(plain(colour, (0.0, 2.0, -1.0), batch=2), face)
    known = ~rings(face, 0)
    assert known.float().mean() > 0.5
    expected = torch.tensor([*colour, 0.0, 2.0, -1.0])
    off = torch.cat([offsets.texture, offsets.displacement], 2)[known] - expected
    # a vertex that is seen with none around it has some of it from those who have it from him
    assert (off.abs().amax(1) < 1e-5).float().mean() > 0.995
    assert off.abs().max() < 0.2


def test_where_neither_side_is_seen_it_fades_to_zero():
    face = turned(0.0, 30.0)
    offsets = sample_offsets(plain((1.0, 1.0, 1.0), batch=2), face).texture[..., 0]
    assert offsets.min() >= 0
    assert offsets.max() <= 1 + 1e-5
    means = [offsets[rings(face, r - 1) & ~rings(face, r)].mean() for r in (1, 2, 3, 5)]
    assert means[0] > 0.8
    assert all(a > b + 0.05 for a, b in pairwise(means))
    far = rings(face, 8)
    assert far.sum() > 100
    assert not offsets[far].any()


def test_the_eyeballs_and_the_mouths_inside_follow_the_same_rule():
    """Hidden behind the lips with the mouth shut, and read where it is open."""
    inside = model().regions["mouth_interior"] > 0.5
    balls = model().regions["eyeballs"] > 0.5
    shut, opened = turned(0.0), turned(0.0, jaw=1.0)
    maps = plain((1.0, 1.0, 1.0))
    for part, least in ((inside, 0.1), (balls, 0.2)):
        assert sample_offsets(maps, opened).seen[0, part].mean() > least
    assert not sample_offsets(maps, shut).seen[0, inside].any()
    assert (sample_offsets(maps, shut).texture[0, inside] == 0).float().mean() > 0.1
    assert (sample_offsets(maps, opened).texture[0, inside, 0] > 0.999).float().mean() > 0.1


# No step, no side, no gradient but to the maps ---------------------------------------------------


@pytest.mark.parametrize("subdivision", [0, 1])
def test_there_is_no_step_between_own_and_mirrored_reading(subdivision):
    """A displacement to the right, of a face that shows its left: across the border it turns
    round."""
    face = turned(40.0, subdivision=subdivision)
    offsets = sample_offsets(plain(displacement=(1.0, 0.0, 0.0)), face)
    x = offsets.displacement[0, :, 0]
    assert x.min() < -0.99
    assert x.max() > 0.99
    a, b = edges(face.model.faces).unbind(1)
    skin = (face.model.regions["skin"] > 0.5) & (face.model.regions["eyes"] < 0.5)
    both = skin[a] & skin[b]
    hard = torch.where(visible_vertices(face)[0] > 0, 1.0, -1.0)
    step, rough = ((v[a] - v[b])[both].square().mean() for v in (x, hard))
    assert step < 0.4 * rough


def test_symmetric_maps_make_a_symmetric_face_symmetric():
    maps = waves()
    texture = maps.texture + maps.texture.flip(3)
    displacement = maps.displacement + FLIP[None, :, None, None] * maps.displacement.flip(3)
    offsets = sample_offsets(OffsetMaps(texture, displacement), turned(0))
    mirror = model().mirror
    for values, sign in ((offsets.texture, 1), (offsets.displacement, FLIP)):
        off = (values - sign * values[:, mirror]).abs().amax(-1)
        assert (off < 1e-3).float().mean() > 0.99


def test_flipped_maps_and_the_mirrored_face_give_mirrored_offsets():
    maps = waves()
    displacement = FLIP[None, :, None, None] * maps.displacement.flip(3)
    flipped = OffsetMaps(maps.texture.flip(3), displacement)
    one, two = sample_offsets(maps, turned(25)), sample_offsets(flipped, turned(-25))
    mirror = model().mirror
    assert (one.seen == two.seen[:, mirror]).float().mean() > 0.995
    for name, sign in (("texture", 1), ("displacement", FLIP)):
        off = getattr(one, name) - sign * getattr(two, name)[:, mirror]
        assert (off.abs().amax(-1) < 1e-3).float().mean() > 0.97


@pytest.mark.parametrize("sampling", ["bilinear", "hyperbolic"])
def test_the_gradient_reaches_the_maps_and_not_the_base_face(sampling):
    c = model().neutral(2).map(lambda value: value.requires_grad_())
    face = synthesise(model(), c)
    maps = OffsetMaps(*(m.requires_grad_() for m in waves(2)))
    offsets = sample_offsets(maps, face, sampling)
    total = offsets.texture.sum() + offsets.displacement[..., 1].square().sum()
    slopes = torch.autograd.grad(total, [*maps, c.translation, c.identity], allow_unused=True)
    assert slopes[0].abs().sum() > 0
    assert slopes[1].abs().sum() > 0
    assert slopes[2] is slopes[3] is None
    assert not slopes[1][:, [0, 2]].any()


def test_every_face_of_a_batch_is_as_it_is_alone():
    yaws, maps = (0.0, 35.0, -50.0), waves(3)
    together = sample_offsets(maps, turned(*yaws))
    for i, yaw in enumerate(yaws):
        alone = sample_offsets(OffsetMaps(*(m[i : i + 1] for m in maps)), turned(yaw))
        torch.testing.assert_close(alone.texture[0], together.texture[i])
        torch.testing.assert_close(alone.displacement[0], together.displacement[i])
        assert torch.equal(alone.seen[0], together.seen[i])


# Other ways to read ------------------------------------------------------------------------------


def test_hyperbolic_sampling_with_the_cameras_depth_is_nearly_bilinear():
    face, maps = turned(0.0, 30.0), waves(2)
    one, two = (sample_offsets(maps, face, s) for s in ("bilinear", "hyperbolic"))
    off = (one.displacement - two.displacement).abs()
    assert off.max() > 0
    assert off.quantile(0.99) < 0.01  # mm
    assert torch.equal(one.seen, two.seen)


def test_maps_of_another_size_are_read_at_the_same_places():
    face, size = turned(0.0), 112
    line = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(line, line, indexing="ij")
    maps = OffsetMaps(torch.stack([u, v, 0 * u])[None], torch.zeros(1, 3, size, size))
    offsets = sample_offsets(maps, face)
    points = pixels(face) / 224
    off = (offsets.texture[..., :2] - points)[inner(offsets.seen)]
    assert len(off) > 300
    torch.testing.assert_close(off, torch.zeros_like(off), rtol=0, atol=1e-5)


def test_in_uv_space_every_vertex_reads_its_own_place_in_any_pose():
    maps = waves()
    read = sample_bilinear(maps.displacement, 224 * uv_layout(model()).uv[None])[0]
    well = inner(uv_layout(model()).exposed[None])[0]
    assert well.sum() > 800
    for yaw in (0.0, 60.0):
        offsets = sample_offsets(maps, turned(yaw), space="uv")
        torch.testing.assert_close(offsets.displacement[0, well], read[well])
        assert torch.equal(offsets.seen[0], uv_layout(model()).exposed)
    deep = beyond(uv_layout(model()).exposed[None], 8)
    assert deep.sum() > 50
    assert not offsets.displacement[deep].any()


def test_a_photo_unwrapped_and_read_in_uv_space_is_on_its_own_skin():
    """The way there and the way back: a vertex reads what the photo shows of it."""
    face = turned(20.0)
    photo = face.render(224, attributes=face.vertices)[0]
    maps = OffsetMaps(unwrap(photo, face), torch.zeros(1, 3, 224, 224))
    offsets = sample_offsets(maps, face, space="uv")
    well = inner(visible_vertices(face))
    assert well.sum() > 500
    off = (offsets.texture - face.vertices)[well].norm(dim=-1)
    assert off.median() < 0.5  # mm
    assert off.quantile(0.95) < 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"sampling": "nearest"}, "sampling 'nearest': expected 'bilinear' or 'hyperbolic'"),
        ({"space": "world"}, "space 'world': expected 'image' or 'uv'"),
        ({"space": "uv", "sampling": "hyperbolic"}, "a map in uv space has no depth"),
    ],
)
def test_other_ways_to_read_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        sample_offsets(plain(), turned(0), **words)


@pytest.mark.gpu
@pytest.mark.parametrize("space", ["image", "uv"])
def test_on_cuda_it_is_the_same_and_nobody_waits(space):
    maps, yaws = waves(2), (0.0, 35.0)
    ours = sample_offsets(maps, turned(*yaws), space=space)
    m = model().to("cuda")
    c = m.neutral(2)
    c.rotation[:, 1] = torch.tensor(yaws, device="cuda").deg2rad()
    face, there = synthesise(m, c), OffsetMaps(*(x.cuda().requires_grad_() for x in maps))

    def read() -> VertexOffsets:
        offsets = sample_offsets(there, face, space=space)
        (offsets.texture.sum() + offsets.displacement.sum()).backward()
        return offsets

    read()  # what depends on the mesh alone is worked out once
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        offsets = read()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (offsets.seen.cpu() == ours.seen).float().mean() > 0.995
    off = (offsets.displacement.cpu() - ours.displacement).abs().amax(-1)
    assert (off < 1e-3).float().mean() > 0.98
