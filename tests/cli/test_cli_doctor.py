"""`facerecon doctor`: what is here, what is missing, what to do."""

import os
from dataclasses import replace
from pathlib import Path

from command_line import SAMPLE, facerecon, refused, works
from rich.console import Console

from facerecon_lib.cli import doctor as doctor_module
from facerecon_lib.networks.encoder import ENCODER_FILE
from facerecon_lib.rendering.warp.cache import KernelError, kernel_folder


def test_the_doctor_names_what_is_here_and_what_to_do():
    result = works("doctor")
    words = "torch", "warp-lang", "face model", "MediaPipe", "MTCNN", "dlib", "terms", "Ready"
    for word in (*words, "facenet"):
        assert word in result.stdout
    assert "who it is" in " ".join(result.stdout.split())


def test_the_doctor_tells_of_the_encoder_and_fitting_does_without_it(monkeypatch, checkpoint):
    shipped = "facerecon_lib.networks.encoder.ENCODER_FILE"
    monkeypatch.setattr(shipped, replace(ENCODER_FILE, shipped=str(checkpoint)))
    result = works("doctor")
    told = " ".join(result.stdout.split())
    assert "untrained.safetensors" in told
    assert "mobilenet_v3_large" in told
    monkeypatch.setattr(shipped, replace(ENCODER_FILE, shipped=str(SAMPLE)))
    result = works("doctor")
    assert "readable safetensors" in " ".join(result.stdout.split())


def test_the_doctor_names_the_variables_whose_files_do_not_load(monkeypatch, checkpoint):
    monkeypatch.setattr("facerecon_lib.cli.app.out_console", Console(width=300))
    monkeypatch.setenv("FACERECON_ENCODER", str(checkpoint))
    monkeypatch.setenv("FACERECON_UNET", "/nowhere")
    result = works("doctor")  # fitting does without either
    encoder, unet = (
        next(line for line in result.stdout.splitlines() if line.startswith(f"│ {name} "))
        for name in ("encoder", "offset U-Net")
    )
    assert "untrained.safetensors: mobilenet_v3_large" in encoder
    assert "$FACERECON_UNET: /nowhere: there is no such offset U-Net" in unet
    assert "$FACERECON_UNET names it: change it, or unset it" in unet
    monkeypatch.setenv("FACERECON_MODEL", "/nowhere")
    result = facerecon("doctor")
    assert result.exit_code == 1
    assert "$FACERECON_MODEL names it: change it, or unset it" in result.stdout


def test_the_doctor_says_what_is_missing(monkeypatch):
    missing = ("no-such-package", "no_such_package", True, "pip install no-such-package")
    broken = ("numpy", "no_such_module", True, "pip install numpy")
    packages = (missing, broken, *doctor_module.PACKAGES)
    monkeypatch.setattr(doctor_module, "PACKAGES", packages)
    result = facerecon("doctor")
    assert result.exit_code == 1
    assert "missing" in result.stdout
    assert "does not load" in result.stdout
    assert "Not ready" in result.stdout


def test_the_doctor_survives_a_model_and_detectors_that_do_not_load(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("torn to pieces")

    monkeypatch.setattr("facerecon_lib.face.morphable_model.MorphableModel.load", broken)
    monkeypatch.setattr("facerecon_lib.photos.landmarks.detectors", broken)
    result = facerecon("doctor")
    assert result.exit_code == 1
    assert result.stdout.count("torn to") == 2


def test_the_doctor_compiles_a_kernel_and_names_their_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("facerecon_lib.cli.app.out_console", Console(width=300))
    folder = Path(kernel_folder())
    for home, name in ((tmp_path, folder), (folder.parent, Path("~", folder.name))):
        monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(home))
        line = next(line for line in works("doctor").stdout.splitlines() if "│ kernels " in line)
        assert f"compiled in {name} " in line

    def broken(*arguments):
        raise KernelError("/full: no kernel can be compiled there")

    monkeypatch.setattr("facerecon_lib.rendering.rasterizer.rasterize", broken)
    done = facerecon("doctor")
    assert done.exit_code == 1
    assert "/full: no kernel can be compiled there" in done.stdout
    refused(facerecon("fit", SAMPLE, "--out", "nowhere"), "facerecon: /full: no kernel")


def test_the_doctor_says_which_extra_to_install(monkeypatch):
    absent = ("no-such-package", None, False, "pip install 'facerecon-lib[train]': to train")
    monkeypatch.setattr(doctor_module, "PACKAGES", (absent,))
    monkeypatch.setattr("facerecon_lib.cli.app.out_console", Console(width=300))
    monkeypatch.setattr("facerecon_lib.photos.landmarks._installed", lambda module: False)
    told = works("doctor").stdout
    for extra in ("train", "dlib", "face-alignment"):
        assert f"pip install 'facerecon-lib[{extra}]'" in told
