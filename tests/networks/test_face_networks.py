"""Weights: dlib's whole, facenet's fetched and checked, and never any made up."""

import functools
import http.server
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch

from facerecon_lib.files.downloads import sha256_of
from facerecon_lib.files.weights import shipped_file
from facerecon_lib.networks import face_networks as recognition_networks
from facerecon_lib.networks.face_networks import (
    FaceNetwork,
    RecognitionError,
    facenet_file,
    load_network,
    networks,
)
from facerecon_lib.networks.recognition import face_features


def refused(says: str, name: str = "facenet", **settings) -> str:
    with pytest.raises(RecognitionError, match=says) as error:
        load_network(name, **settings)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


# dlib's network ---------------------------------------------------------------------------------


def test_dlibs_network_is_whole_and_frozen():
    before = torch.get_rng_state()
    network = load_network()
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(network, FaceNetwork)
    assert network.name == "dlib"
    numbers = [*network.layers.parameters(), *network.layers.buffers()]
    assert len(numbers) == 2 * 29 + 1
    assert sum(x.numel() for x in numbers) == 5_607_488
    assert all(x.isfinite().all() for x in numbers)
    assert not any(p.requires_grad for p in network.parameters())
    assert network(torch.rand(2, 3, 150, 150)).shape == (2, 128)


def test_a_damaged_or_missing_file_is_refused_in_one_line(tmp_path, monkeypatch):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(shipped_file(recognition_networks.DLIB_FILE).read_bytes()[:-1])
    refused(r"cut.safetensors: not a readable safetensors file", "dlib", file=cut)
    other = shipped_file("face_mesh.safetensors")
    refused(r"no file of dlib's network .*convert_dlib_network.py makes one", "dlib", file=other)
    monkeypatch.setattr(recognition_networks, "DLIB_FILE", "gone")
    refused(r"gone: there is no such file of dlib's network", "dlib")
    monkeypatch.setattr(recognition_networks.importlib.util, "find_spec", lambda _: None)
    assert [row["ready"] for row in networks()] == [False, False]
    assert all(row["todo"] for row in networks())


def test_an_unknown_network_is_an_error():
    refused("'arcface' is unknown; choose dlib or facenet", "arcface")


# facenet's file ---------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A file laid out like facenet's, with numbers that nobody trained."""
    inception = pytest.importorskip("facenet_pytorch").InceptionResnetV1
    torch.manual_seed(0)
    weights = inception().state_dict()
    weights["logits.weight"], weights["logits.bias"] = torch.zeros(7, 512), torch.zeros(7)
    path = tmp_path_factory.mktemp("served") / facenet_file().name
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def server(made):
    """Serves the folder of `made`; yields its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=made.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_facenet_without_weights_is_an_error_and_nothing_is_fetched(cache, monkeypatch):
    monkeypatch.setattr(recognition_networks, "fetch", lambda *_: pytest.fail("fetched"))
    assert str(cache / "checkpoints") in refused(r"is not there; load_network\('facenet', allow_do")
    assert not cache.exists()


def test_facenet_that_cannot_be_fetched_is_an_error(cache, monkeypatch, server):
    for url in (f"{server}/nothing.pt", "http://127.0.0.1:1/x.pt", "https://no.invalid/x.pt"):
        monkeypatch.setattr(recognition_networks, "FACENET_URL", url)
        assert url in refused("elsewhere and put the file at ", allow_download=True)
    assert not list(cache.rglob("*.pt"))


def test_facenet_is_fetched_once_checked_and_loaded_as_it_is(cache, monkeypatch, server, made):
    monkeypatch.setattr(recognition_networks, "FACENET_URL", f"{server}/{made.name}")
    monkeypatch.setattr(recognition_networks, "FACENET_SHA256", sha256_of(made))
    network = load_network("facenet", allow_download=True)
    assert (cache / "checkpoints" / made.name).read_bytes() == made.read_bytes()
    assert [p.name for p in (cache / "checkpoints").iterdir()] == [made.name]
    expected = torch.load(made, weights_only=True)
    found = network.layers.state_dict()
    assert set(expected) - set(found) == {"logits.weight", "logits.bias"}
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert not any(p.requires_grad for p in network.parameters())

    monkeypatch.setattr(recognition_networks, "fetch", lambda *_: pytest.fail("fetched again"))
    again = load_network("facenet")
    chips = torch.rand(2, 3, 160, 160)
    again.train()  # and yet no dropout
    features = again(chips)
    assert torch.equal(features, network(chips))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    assert features.shape == (2, 512)
    image = torch.rand(1, 3, 224, 224, requires_grad=True)
    face_features(again, image, 50 + 120 * torch.rand(1, 68, 2)).abs().sum().backward()
    assert image.grad.abs().sum() > 0
    [row] = [row for row in networks() if row["name"].startswith("facenet")]
    assert row["ready"]
    assert "research" in row["licence"]


def test_a_facenet_file_with_another_digest_is_refused(cache, made):
    path = facenet_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>404</html>")
    text = refused("is damaged or another file: 16 bytes", allow_download=True)
    assert "delete it" in text
    assert path.read_bytes() == b"<html>404</html>"  # and not ours to remove
    refused("is damaged or another file", file=made)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_pickled_code_is_refused_and_not_run(tmp_path, made, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights.pt").write_bytes(pickle.dumps(Harmful()))
    refused("is damaged or another file", file=Path("weights.pt"))
    monkeypatch.setattr(recognition_networks, "FACENET_SHA256", sha256_of("weights.pt"))
    with pytest.raises(pickle.UnpicklingError):
        load_network("facenet", file=Path("weights.pt"))
    assert not Path("harm").exists()
