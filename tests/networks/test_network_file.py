"""The files of encoder and U-Net: whole, ours, of this face model, or one line why not."""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from facerecon_lib.files import weights as weight_files
from facerecon_lib.networks import network_file
from facerecon_lib.networks.encoder import ENCODER_FILE, load_encoder, save_encoder
from facerecon_lib.networks.network_file import NetworkFile
from facerecon_lib.networks.unet import UNET_FILE, DoubleHeadUNet, load_unet, save_unet


@dataclass
class Kind:
    """One kind of network: a small one, filled, and what reads and writes it."""

    network: nn.Module
    save: Callable
    load: Callable
    facts: NetworkFile
    tensors: tuple[str, ...]  # the names of a weight and of another number


@pytest.fixture(params=["encoder", "unet"])
def kind(request, tiny_backbones, tiny) -> Kind:
    if request.param == "encoder":
        tensors = "head.weight", "features.1.running_var"
        return Kind(tiny, save_encoder, load_encoder, ENCODER_FILE, tensors)
    tensors = "down.0.0.weight", "texture.last.bias"
    return Kind(DoubleHeadUNet(8, 3), save_unet, load_unet, UNET_FILE, tensors)


@pytest.fixture
def file(kind, tmp_path) -> Path:
    path = tmp_path / "network.safetensors"
    kind.save(path, kind.network, {"model": "a face model", "note": "so it is"}, store="float32")
    return path


def face_model(sizes=(6, 5, 4), **metadata) -> SimpleNamespace:
    return SimpleNamespace(sizes=sizes, metadata={"file": "other.safetensors"} | metadata)


def rewritten(path: Path, change) -> None:
    """The file with its tensors and metadata changed."""
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    change(state, metadata)
    save_file(state, path, metadata)


def refused(kind: Kind, path: Path | None, says: str, model=None) -> str:
    with pytest.raises(kind.facts.error, match=says) as error:
        kind.load(path, model)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_loading_draws_no_random_numbers_and_gives_a_network_in_eval_mode(kind, file):
    before = torch.get_rng_state()
    network = kind.load(file)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert network.name == "network.safetensors"


def test_metadata_goes_from_file_to_file(kind, file, tmp_path):
    kind.save(tmp_path / "again", kind.load(file), {"note": "changed"})
    metadata = kind.load(tmp_path / "again").metadata
    assert (metadata["model"], metadata["note"]) == ("a face model", "changed")


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_any_words_can_stand_in_the_metadata(kind, file, words):
    metadata = {"w": json.dumps(words)} | {"?" + k: v for k, v in words.items()}
    kind.save(file, kind.network, metadata)
    metadata = kind.load(file).metadata
    assert json.loads(metadata["w"]) == words
    assert all(metadata["?" + k] == v for k, v in words.items())


def test_a_network_cannot_be_told_to_be_another(kind, tmp_path):
    other = {"backbone": "resnet50", "norm": "frozen", "width": "16", "format": "mine"}
    kind.save(tmp_path / "x", kind.network, other)
    ours = kind.load(tmp_path / "x")
    for name in {"backbone", "norm", "width"} & set(vars(ours)):
        assert getattr(ours, name) == getattr(kind.network, name)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(kind, file, monkeypatch):
    def full_disk(state, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    before = file.read_bytes()
    monkeypatch.setattr(weight_files, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        kind.save(file, kind.network)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_another_store_is_refused_and_nothing_is_written(kind, tmp_path):
    with pytest.raises(ValueError, match="store 'int4': expected float32"):
        kind.save(tmp_path / "x", kind.network, store="int4")
    assert os.listdir(tmp_path) == []


def test_a_missing_file_says_what_makes_one(kind, tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        refused(kind, path, f"there is no such {kind.facts.what}; {kind.facts.maker}")


@pytest.mark.parametrize("length", [0, 1, 7, 100, 900, 2_500, -1])
def test_a_file_cut_short_is_refused(kind, file, length):
    file.write_bytes(file.read_bytes()[:length])
    refused(kind, file, "^network.safetensors: not a readable safetensors file")


@pytest.mark.parametrize("content", [b"\x80\x04pickle", b"not this one at all" * 50, bytes(200)])
def test_bytes_that_are_no_safetensors_are_refused(kind, file, content):
    file.write_bytes(content)
    refused(kind, file, "not a readable safetensors file")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "facerecon-face-model-1"}])
def test_another_safetensors_file_is_refused(kind, file, metadata):
    save_file({"x": torch.zeros(3)}, file, metadata)
    refused(kind, file, f"no {kind.facts.what} of this project")


CHANGES = [
    lambda state, m: state.update(extra=torch.zeros(3)),
    lambda state, m: m.update(norm="layer"),
    lambda state, m: m.pop("norm"),
]
ENCODER_CHANGES = [
    lambda state, m: state.pop("head.bias"),
    lambda state, m: state.update({"head.bias": torch.zeros(3)}),
    lambda state, m: state.update({"head.weight": state["head.weight"].to(torch.int8)}),
    lambda state, m: m.update(sizes="[6, 5, 5]"),
    lambda state, m: m.update(sizes="[6, 5]"),
    lambda state, m: m.update(sizes='"six"'),
    lambda state, m: m.update(sizes="six"),
    lambda state, m: m.update(sizes="[6.0, 5.0, 4.0]"),
    lambda state, m: m.pop("sizes"),
    lambda state, m: m.update(backbone="resnet18"),
    lambda state, m: m.update(backbone="vgg"),
    lambda state, m: m.update(input_size="0"),
    lambda state, m: m.update(input_size="large"),
]
UNET_CHANGES = [
    lambda state, m: state.pop("down.0.0.weight"),
    lambda state, m: m.update(width="16"),
    lambda state, m: m.update(depth="two"),
]


def test_parts_that_do_not_fit_are_refused(kind, file):
    good = file.read_bytes()
    for change in CHANGES + (ENCODER_CHANGES if kind.load is load_encoder else UNET_CHANGES):
        file.write_bytes(good)
        rewritten(file, change)
        refused(kind, file, r"its parts do not fit \(.*\); train it again")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(kind, file, value):
    stores = ("float32", "int8") if kind.load is load_encoder else ("float32", "float16")
    for name in kind.tensors:
        network = copy.deepcopy(kind.network)
        network.state_dict()[name].view(-1)[0] = value
        for store in stores:
            kind.save(file, network, store=store)
            refused(kind, file, f"{name}.* holds numbers that are not finite")


def test_a_network_goes_with_its_own_face_model(kind, file):
    assert kind.load(file, face_model(name="a face model")).name == file.name
    for other in (face_model(name="another"), face_model()):
        text = refused(kind, file, "was trained for a face model.*, not for", other)
        assert "train one with that model" in text
        assert "$" not in text  # the variable was not asked


def test_the_numbers_of_modes_count_for_an_encoder_alone(kind, file):
    other = face_model((6, 5, 3), name="a face model")
    if kind.load is load_unet:
        assert kind.load(file, other)
        return
    refused(kind, file, "was trained for a face model", other)
    rewritten(file, lambda state, metadata: metadata.pop("model"))
    kind.load(file, face_model(name="any"))
    refused(kind, file, "was trained for any", face_model((6, 5, 3), name="any"))


def test_the_environment_names_the_default_file(kind, file, tmp_path, monkeypatch):
    variable = kind.facts.variable
    monkeypatch.delenv(variable, raising=False)
    assert kind.facts.default_path().parts[-2:] == ("assets", kind.facts.shipped)
    monkeypatch.setattr(network_file, "shipped_file", lambda name: tmp_path / "shipped")
    kind.save(tmp_path / "shipped", kind.network, {"model": "the one that ships"})
    assert kind.load().name == "shipped"
    monkeypatch.setenv(variable, "")
    assert kind.load().name == "shipped"
    monkeypatch.setenv(variable, str(file))
    assert kind.load(model=face_model(name="a face model")).name == file.name
    assert kind.load(tmp_path / "shipped").name == "shipped"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, f"~/{file.relative_to(tmp_path)}")
    assert kind.load().name == file.name


def test_a_wrong_file_of_the_environment_is_told_with_its_variable(
    kind, file, tmp_path, monkeypatch
):
    variable = kind.facts.variable
    monkeypatch.setenv(variable, str(file))
    other = face_model(name="another")
    refused(kind, None, rf"^\${variable}: network\.safetensors: was trained for", other)
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    refused(kind, None, rf"^\${variable}: .*nowhere: there is no such")


def test_whether_the_shipped_one_fits_is_asked_of_it_alone_and_only_if_none_is_named(
    kind, file, tmp_path, monkeypatch
):
    monkeypatch.delenv(kind.facts.variable, raising=False)
    monkeypatch.setattr(network_file, "shipped_file", lambda name: file)
    assert kind.facts.fits(face_model(name="a face model"))
    assert not kind.facts.fits(face_model(name="another"))
    file.write_bytes(b"damaged")
    with pytest.raises(kind.facts.error, match=r"^network\.safetensors: not a readable"):
        kind.facts.fits(face_model(name="a face model"))
    monkeypatch.setenv(kind.facts.variable, str(tmp_path / "mine"))
    assert kind.facts.fits(face_model(name="another"))


def test_where_the_shipped_one_does_not_fit_the_variable_is_named(kind, file, monkeypatch):
    monkeypatch.delenv(kind.facts.variable, raising=False)
    monkeypatch.setattr(network_file, "shipped_file", lambda name: file)
    says = rf"train one with that model and name it: \${kind.facts.variable}$"
    refused(kind, None, says, face_model(name="another"))
