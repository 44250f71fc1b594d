"""Small networks, filled with numbers, for the tests of files and of what networks see."""

import copy

import pytest
import torch
from torch import Tensor, nn

from facerecon_lib.networks import encoder as encoder_module
from facerecon_lib.networks.backbones import BACKBONES, NORMS, EncoderError
from facerecon_lib.networks.encoder import Encoder


def few_layers(name: str, norm: str, *_: object) -> tuple[nn.Module, int]:
    """In the place of a backbone, where a test is about files: loads in no time."""
    if name not in BACKBONES or norm not in NORMS:
        raise EncoderError("unknown")
    width = 16 if name == "mobilenet_v3_large" else 12
    layers = [nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, width, 3, 2)]
    return nn.Sequential(*layers), width


@pytest.fixture
def tiny_backbones(monkeypatch) -> None:
    monkeypatch.setattr(encoder_module, "backbone_features", few_layers)


@pytest.fixture(scope="session")
def filled_encoder() -> Encoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_module, "backbone_features", few_layers)
        torch.manual_seed(1)
        encoder = Encoder((6, 5, 4), "mobilenet_v3_large", input_size=64)
    torch.nn.init.normal_(encoder.head.weight)
    encoder.train()(photos())
    return encoder.eval()


@pytest.fixture
def tiny(filled_encoder) -> Encoder:
    """An encoder of a few layers."""
    return copy.deepcopy(filled_encoder)


def photos(count: int = 3, size: int = 64) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))
