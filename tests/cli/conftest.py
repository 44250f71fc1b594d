"""Fits and reconstructions of the bundled photo, made once."""

import json
import subprocess
import sys

import pytest
from command_line import SAMPLE, works

from facerecon_lib.fitting.fit import FitSettings
from facerecon_lib.networks.encoder import OUTPUT_SCALES, Encoder, save_encoder
from facerecon_lib.reconstruction import reconstruct as results


@pytest.fixture
def fit_with(monkeypatch):
    """Makes every fit one of these settings."""
    whole = results.fit

    def patch(**settings):
        some = FitSettings(**settings)
        monkeypatch.setattr(results, "fit", lambda *a, **k: whole(*a, **(k | {"settings": some})))

    return patch


@pytest.fixture
def quick(fit_with):
    """Fits in a second or two, for what does not depend on how good the fit is."""
    fit_with(landmark_steps=40, coarse_steps=10, fine_steps=5)


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The bundled photo, fitted in full by the installed command."""
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "facerecon_lib.cli", "fit", SAMPLE, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "astronaut", done


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, model):
    """An encoder that has learnt nothing: the mean face, whatever the photo, with a turn to it."""
    encoder = Encoder(model.sizes, "mobilenet_v3_large")
    # a roll of 0.1 rad
    encoder.head.bias.data[sum(model.sizes) + 2] = 0.1 / OUTPUT_SCALES["rotation"][2]
    path = tmp_path_factory.mktemp("encoder") / "untrained.safetensors"
    save_encoder(path, encoder, {"settings": json.dumps({"seed": 7, "family": "train"})})
    return path


@pytest.fixture(scope="session")
def encoded(checkpoint, tmp_path_factory):
    """The bundled photo, reconstructed feed-forward."""
    out = tmp_path_factory.mktemp("encoded")
    done = works("reconstruct", SAMPLE, "--out", out, "--checkpoint", checkpoint)
    return out / "astronaut", done
