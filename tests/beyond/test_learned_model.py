"""A face model learned from pictures: its network, its losses, its file."""

from dataclasses import replace

import pytest
import torch

from facerecon_lib.beyond.learned_model import (
    LEARNED_FILE,
    LearnedModel,
    LearnedModelError,
    LearnedObjective,
    average_frames,
    load_learned_model,
    node_weights,
    person_numbers,
    save_learned_model,
    without_bases,
)
from facerecon_lib.data.rendered.faces import RenderedFaces
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.weights import LEARNED_WEIGHTS

SMALL = dict(identity=4, albedo=3, nodes=30, width=4, input_size=32)


@pytest.fixture(scope="module")
def hidden():
    return MorphableModel.load(subdivision=0)


@pytest.fixture(scope="module")
def batch(hidden):
    return RenderedFaces(hidden, seed=1, clean=True, frames=2).batch(torch.arange(4))


@pytest.fixture
def network(hidden):
    torch.manual_seed(0)
    return LearnedModel(hidden, **SMALL)


def test_frames_of_a_person_share_identity_and_albedo_and_nothing_else(network, batch):
    torch.nn.init.normal_(network.to_frame[-1].weight, std=0.1)
    c = network(batch.image, batch.landmarks, person_numbers(batch)).coefficients
    for name in ("identity", "albedo"):
        values = getattr(c, name)
        assert torch.equal(values[0], values[1])
        assert not torch.equal(values[1], values[2])
    for name in ("expression", "rotation", "lighting"):
        assert not torch.equal(getattr(c, name)[0], getattr(c, name)[1])


def test_it_never_looks_at_the_hidden_bases(hidden, network, batch):
    other = replace(
        hidden,
        identity_basis=torch.full_like(hidden.identity_basis, torch.nan),
        albedo_basis=torch.full_like(hidden.albedo_basis, torch.nan),
    )
    blind = LearnedModel(other, **SMALL)
    blind.load_state_dict(network.state_dict())
    person = person_numbers(batch)
    ours, theirs = (n(batch.image, batch.landmarks, person) for n in (network, blind))
    assert torch.equal(ours.coefficients.to_vector(), theirs.coefficients.to_vector())
    assert without_bases(hidden).sizes == (0, hidden.sizes.expression, 0)


def test_the_losses_reach_network_and_bases_and_fall(network, hidden, batch):
    objective = LearnedObjective(hidden, LEARNED_WEIGHTS, size=32)
    adam = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        faces = network(batch.image, batch.landmarks, person_numbers(batch))
        result = objective(faces, batch)
        adam.zero_grad()
        result.loss.backward()
        losses.append(result.loss.item())
        adam.step()
    for part in (network.shape_nodes, network.albedo_modes, network.albedo_change):
        assert part.grad.abs().sum() > 0
    assert {"pixel", "landmark", "smooth_basis", "sparse_albedo"} <= result.terms.keys()
    assert losses[-1] < 0.9 * losses[0]


def test_people_without_weight_and_numbers_without_frames_have_rows_of_0():
    features = torch.tensor([[1.0, 4.0], [3.0, 0.0], [7.0, 7.0]], requires_grad=True)
    weights = torch.tensor([1.0, 3.0, 0.0])
    rows = average_frames(features, torch.tensor([0, 0, 2]), weights)
    assert rows.tolist() == [[2.5, 1.0], [0.0, 0.0], [0.0, 0.0]]
    rows.sum().backward()
    assert torch.isfinite(features.grad).all()


def test_people_are_numbered_by_name_and_nobody_known_is_alone(batch):
    named = replace(batch, person=["b", "", "b", ""])
    assert person_numbers(named).tolist() == [0, 1, 0, 2]
    assert person_numbers(replace(batch, person=None)).tolist() == [0, 1, 2, 3]


def test_node_weights_are_shares_and_a_node_has_most_of_itself(hidden):
    weights = node_weights(hidden.mean, 40)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(hidden.mean)))
    assert len(weights.argmax(0).unique()) == 40


def test_a_file_gives_the_same_network_back(tmp_path, network, hidden, batch):
    save_learned_model(tmp_path / "m.safetensors", network, {"steps": "3"})
    again = load_learned_model(tmp_path / "m.safetensors", hidden)
    seen = batch.image, batch.landmarks, person_numbers(batch)
    ours, theirs = (n.eval()(*seen).coefficients.to_vector() for n in (network, again))
    assert torch.equal(ours, theirs)
    assert again.metadata["steps"] == "3"


def test_a_file_of_another_mesh_is_refused_in_one_line(tmp_path, network):
    path = tmp_path / "m.safetensors"
    save_learned_model(path, network)
    with pytest.raises(LearnedModelError, match=r"m\.safetensors: its parts do not fit"):
        load_learned_model(path, MorphableModel.load(subdivision=1))


def test_the_one_that_ships_is_nearer_to_strangers_than_the_mean_face(hidden):
    from facerecon_lib.face.measures import vertex_error_mm

    network = load_learned_model(model=hidden)
    assert LEARNED_FILE.default_path().stat().st_size < 4e6
    faces = RenderedFaces(hidden, seed=500, family="held-out", frames=4).batch(torch.arange(32))
    with torch.no_grad():
        answer = network(faces.image, faces.landmarks, person_numbers(faces))
    c, truth = answer.coefficients, faces.true_vertices
    shape = answer.model.shape(c.identity, c.expression)
    error, mean = (vertex_error_mm(v, truth).mean() for v in (shape, hidden.mean.expand_as(truth)))
    assert error < 0.85 * mean
