"""The encoder's backbones: learned weights that are taken whole, or an error."""

import hashlib
import io
import os
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import mobilenet_v3_large

from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.networks import backbones, face_networks
from facerecon_lib.networks.backbones import BACKBONES, EncoderError, imagenet_file
from facerecon_lib.networks.encoder import Encoder
from facerecon_lib.networks.face_networks import load_network

SIZES = (6, 5, 4)
SMALL = "mobilenet_v3_large"


def photos(count: int = 3, size: int = 64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def refused(says: str, **settings) -> None:
    with pytest.raises(EncoderError, match=says) as error:
        Encoder(**(dict(sizes=SIZES, backbone=SMALL) | settings))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@lru_cache
def published() -> tuple[bytes, dict[str, Tensor]]:
    """A file such as torchvision's, and what is in it."""
    torch.manual_seed(5)
    state = mobilenet_v3_large().state_dict()
    state["features.0.1.running_mean"] += 0.25
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue(), state


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch; call it with bytes and it serves them, as if they were published."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def publish(content: bytes, digest: str | None = None) -> Path:
        digest = digest or hashlib.sha256(content).hexdigest()[:8]
        source = tmp_path / f"mobilenet_v3_large-{digest}.pth"
        source.write_bytes(content)
        monkeypatch.setattr(backbones, "imagenet_url", lambda name: source.as_uri())
        return imagenet_file(SMALL)

    return publish


def placed(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_imagenets_weights_are_all_taken(hub, norm):
    content, state = published()
    placed(hub(content), content)
    encoder = Encoder(SIZES, SMALL, norm, weights="imagenet", input_size=64)
    ours = {k: v for k, v in encoder.features.state_dict().items() if "num_batches" not in k}
    assert len(ours) > 200
    for name, value in ours.items():
        assert torch.equal(value, state[f"features.{name}"]), name
    answers = encoder.eval()(photos()).to_vector().detach()
    torch.testing.assert_close(answers, FaceCoefficients.mean(3, *SIZES).to_vector())


def test_imagenets_weights_are_not_made_up(hub):
    path = hub(published()[0])
    refused("is not there; fetch them with allow_download", weights="imagenet")
    assert not path.exists()


@pytest.mark.parametrize("damaged", [b"", b"half", published()[0][:-9]])
def test_damaged_imagenet_weights_are_refused(hub, damaged):
    placed(hub(published()[0]), damaged)
    refused(r"is damaged .* SHA-256 .*delete it", weights="imagenet")


def test_imagenets_weights_are_fetched_into_an_empty_cache_where_allowed(hub, capfd):
    content, _ = published()
    path = hub(content)
    assert not path.parent.exists()
    Encoder(SIZES, SMALL, weights="imagenet", allow_download=True)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_what_is_fetched_and_is_not_what_was_published_is_thrown_away(hub, capfd):
    path = hub(published()[0], digest="0badc0de")
    refused(r"elsewhere and put the file at", weights="imagenet", allow_download=True)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("address", ["file:///nowhere", "no address"])
def test_what_cannot_be_fetched_says_so_in_one_line(hub, monkeypatch, address):
    path = hub(published()[0])
    monkeypatch.setattr(backbones, "imagenet_url", lambda name: f"{address}/{path.name}")
    refused("put the file at", weights="imagenet", allow_download=True)


@pytest.mark.parametrize("backbone", [b for b in BACKBONES if b != "dlib_resnet29"])
def test_the_names_of_torchvisions_files_end_in_their_digest(backbone):
    stem, digest = imagenet_file(backbone).stem.rsplit("-", 1)
    assert stem == backbone
    assert len(digest) == 8
    int(digest, 16)
    assert imagenet_file(backbone).parent == Path(torch.hub.get_dir(), "checkpoints")


def test_dlibs_network_says_what_it_always_said():
    encoder = Encoder(SIZES, "dlib_resnet29", weights="faces", input_size=150)
    network, chips = load_network("dlib"), photos(2, 150)
    with torch.no_grad():
        numbers = encoder.pooled(chips)
        assert numbers.shape == (2, 256 + 256 * 16)
        found = numbers[:, :256] @ network.layers.matrix
        torch.testing.assert_close(found, network(chips), atol=1e-4, rtol=1e-3)
        inputs = (chips - network.colour[:, None, None]) * (255 / network.divisor)
        maps = network.layers.maps(inputs)
    torch.testing.assert_close(numbers[:, 256:], maps[-2].flatten(1), atol=1e-3, rtol=1e-3)


def test_dlibs_network_is_not_made_up(monkeypatch):
    monkeypatch.setattr(face_networks, "DLIB_FILE", "gone.safetensors")
    message = r"dlib_resnet29's weights 'faces': .*gone.safetensors: there is no such file"
    refused(message, backbone="dlib_resnet29", weights="faces")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(backbone="vgg"), "backbone 'vgg' is unknown; choose resnet50"),
        (dict(norm="layer"), "norm 'layer' is unknown; choose batch, group, frozen"),
        (dict(weights="mine"), "weights 'mine' is unknown; choose none, imagenet, faces"),
        (dict(weights="faces"), "weights 'faces' are dlib's"),
        (dict(backbone="dlib_resnet29", weights="imagenet"), "has no ImageNet weights"),
        (dict(weights="imagenet", norm="group"), "not 'group'"),
        (dict(input_size=0), "input_size: expected 32 pixels or more, got 0"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    refused(message, **change)
    assert issubclass(EncoderError, ValueError)
