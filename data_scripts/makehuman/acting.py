"""Named actions carried to faces of other sizes and proportions: deformation transfer.

    carry = Acting(mean, faces, offsets)                   # offsets (E, V, 3): actions on the mean
    moved = carry(neutral)                                 # (E, V, 3): the same actions on a face

R. Sumner and J. Popović, "Deformation transfer for triangle meshes", SIGGRAPH 2004: each triangle
of the face is turned and stretched as the mean's is, and the vertices follow by least squares, with
the cotangent weights of the face. Its outer border moves as the mean's does. Pieces apart from the
skin (eyes, teeth, tongue) keep their place beside the nearest vertices of the skin.

Notebook 01, Eq. 1.
"""

import json

import numpy as np
import scipy.sparse as sp
import torch
from face_models import Faces, Modes, Vertices
from rich.progress import track
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from facerecon_lib.course.nb01_morphable_model.acting_faces import FORMAT
from facerecon_lib.course.nb01_morphable_model.face_samples import load_face_samples
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file

PEOPLE = 150
INSIDE = 0.4  # what mouth, sockets and eyes count, beside the skin
TIE, HOLD = 0.05, 10.0  # weights of a tie between pieces and of the border, beside cotangents


class Acting:
    """mean: (V, 3) mm; faces: (F, 3); offsets: (E, V, 3) mm, what each action moves on the mean."""

    def __init__(self, mean: Vertices, faces: Faces, offsets: Modes):
        self.faces, self.offsets = faces, offsets
        count = len(mean)
        directed = sp.coo_matrix(
            (np.ones(faces.size), (faces.ravel(), np.roll(faces, -1, 1).ravel())), (count, count)
        ).tocsr()
        piece = connected_components(directed, directed=False)[1]
        skin = np.flatnonzero(piece == np.bincount(piece).argmax())
        lone = (directed - directed.T).tocoo()
        border = np.intersect1d(np.unique(lone.row[lone.data > 0]), skin)
        apart = np.setdiff1d(np.arange(count), skin)
        near = skin[cKDTree(mean[skin]).query(mean[apart], k=4)[1]]
        self.ties = np.stack([np.repeat(apart, 4), near.ravel()])
        frames = _frames(mean, faces)
        self.stretch = _frames(mean + offsets, faces) @ np.linalg.inv(frames)  # (E, F, 3, 3)
        rows = np.arange(faces.size)
        one = np.ones(faces.size)
        ends = [
            sp.csr_matrix((one, (rows, np.roll(faces, -k, 1).ravel())), (faces.size, count))
            for k in (1, 2)
        ]
        self.sides = ends[1] - ends[0]  # opposite corner 0, 1, 2 of each triangle
        rows, one = np.arange(self.ties.shape[1]), np.ones(self.ties.shape[1])
        self.tied = sp.csr_matrix((one, (rows, self.ties[0])), (len(rows), count)) - sp.csr_matrix(
            (one, (rows, self.ties[1])), (len(rows), count)
        )
        self.held = sp.diags(np.isin(np.arange(count), border).astype(float))

    def __call__(self, neutral: Vertices) -> Modes:
        """What each action moves on this face, (E, V, 3) mm."""
        sides = (self.sides @ neutral).reshape(*self.faces.shape, 3)
        a, b = np.roll(sides, -1, 1), np.roll(sides, -2, 1)
        cosine = -(a * b).sum(-1)
        sine = np.linalg.norm(np.cross(a, b), axis=-1).clip(1e-6)
        weights = sp.diags((cosine / sine / 2).ravel())
        matrix = self.sides.T @ weights @ self.sides + TIE * self.tied.T @ self.tied
        matrix = matrix + HOLD * self.held
        change = np.einsum("efij,fkj->efki", self.stretch - np.eye(3), sides)
        change = change.reshape(len(change), -1, 3).transpose(1, 0, 2).reshape(self.faces.size, -1)
        fixed = self.offsets.transpose(1, 0, 2).reshape(len(neutral), -1)
        right = self.sides.T @ (weights @ change) + TIE * self.tied.T @ (self.tied @ fixed)
        right = right + HOLD * self.held @ fixed
        moved = splu(matrix.tocsc()).solve(right)
        return moved.reshape(len(neutral), -1, 3).transpose(1, 0, 2)


def _frames(vertices: np.ndarray, faces: Faces) -> np.ndarray:
    """Two sides of each triangle and its normal, of length 1, as columns, (..., F, 3, 3)."""
    a, b, c = np.moveaxis(vertices[..., faces, :], -2, 0)
    normal = np.cross(b - a, c - a)
    normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-9)
    return np.stack([b - a, c - a, normal], -1)


def build(modes: int, seed: int) -> tuple[dict, dict]:
    """The tensors of the file and its metadata: what carrying changes, in so many modes.

    People: notebook 01's samples, as many drawn from the shipped model as make 150, and the
    samples' held-out faces. The neutral faces are not in the file, since they ship already.
    """
    model = MorphableModel.load(shipped_file("face_model.safetensors"), 0)
    samples, names = load_face_samples(), [*model.controls]
    generator = torch.Generator().manual_seed(seed)
    count = PEOPLE - len(samples.shapes) - len(samples.held_out)
    drawn = torch.randn(count, model.sizes.identity, generator=generator).half()
    others = model.mean + torch.einsum("bk,kvc->bvc", drawn.float(), model.identity_basis)
    people = torch.cat([samples.shapes, others, samples.held_out]).double().numpy()
    actions = torch.stack([*model.controls.values()])
    offsets = torch.einsum("ek,kvc->evc", actions, model.expression_basis).double().numpy()
    carry = Acting(model.mean.double().numpy(), model.faces.numpy(), offsets)
    moved = [(carry(p) - offsets).astype(np.float32) for p in track(people, "carrying actions")]
    changes = torch.from_numpy(np.stack(moved)).flatten(0, 1)  # (people x actions, V, 3)
    weight = INSIDE + (1 - INSIDE) * model.regions["skin"][:, None]
    torch.manual_seed(seed)
    _, _, directions = torch.svd_lowrank((changes * weight).flatten(1), modes, niter=4)
    directions = directions.T
    shares = (changes * weight).flatten(1) @ directions.T
    sizes = shares.abs().amax(0) / 127
    tall = directions.abs().amax(1) / 127
    tensors = {
        "drawn": drawn.numpy(),
        "shares": (shares / sizes).round().to(torch.int8).unflatten(0, (len(people), -1)).numpy(),
        "directions": (directions / tall[:, None]).round().to(torch.int8).numpy(),
        "scale": (sizes * tall).numpy(),
        "weight": weight[:, 0].half().numpy(),
    }
    kept = (shares / sizes).round() * sizes * tall @ (directions / tall[:, None]).round()
    left = (changes - kept.unflatten(1, (-1, 3)) / weight)[:, model.regions["skin"] > 0.5]
    skin = changes[:, model.regions["skin"] > 0.5]
    rms = [float(x.norm(dim=-1).square().mean().sqrt()) for x in (skin, left)]
    print("skin: actions change by {:.3f} mm, {:.3f} mm of it is not kept (rms)".format(*rms))
    metadata = {
        "format": FORMAT,
        "name": "facerecon CC0 acting faces",
        "units": "mm",
        "licence": "CC0-1.0",
        "actions": json.dumps(names),
        "provenance": "the 43 actions of the shipped face model, CC0, carried to its samples by"
        f" deformation transfer; data_scripts/build_bilinear_faces.py, {modes} modes, seed {seed}",
    }
    return tensors, metadata
