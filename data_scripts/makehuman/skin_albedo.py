"""The albedo bases of the face model, built from skin tones and masks, since no scans come with it.

Skin runs over the ten tones of the Monk Skin Tone scale; lips, cheeks, brows, beard shadow, eye
sockets, irises and smooth blotches vary on top of it. The basis is the PCA of some thousand such
skins.

Notebook 01, Eq. 2.
"""

from dataclasses import dataclass

import numpy as np
from skimage.color import lab2rgb, rgb2lab

from facerecon_lib.face.colour import MONK_TONES
from makehuman.face_crop import IRIS, PARTS, PUPIL

# The brow's middle line and half width, mm from the centre of the eye: outward from the midline
# of the face, up, half width. Read off renderings of the mean face.
BROW = np.array(
    [(13, 19.5, 3.2), (20, 21.5, 3.9), (30, 23.5, 3.7), (42, 24.0, 3.0), (54, 18.5, 1.6)], float
)
# What is inside the mouth: its colour, sRGB, and how bright it is in the deepest shade.
INSIDE = {
    "teeth": ((0.88, 0.85, 0.78), 0.5),
    "tongue": ((0.62, 0.33, 0.32), 0.3),
    "mouth_cavity": ((0.42, 0.17, 0.16), 0.25),
}
IRIS_COLOURS = np.array([[0.25, 0.15, 0.08], [0.42, 0.32, 0.18], [0.38, 0.47, 0.55]])


@dataclass
class Masks:
    """Each (V,) in [0, 1] on the mesh; `eye_angle` in degrees from the gaze, nan off the eyes."""

    lips: np.ndarray
    brows: np.ndarray
    beard: np.ndarray
    cheeks: np.ndarray
    nose: np.ndarray
    socket: np.ndarray
    lashes: np.ndarray
    forehead: np.ndarray
    occlusion: np.ndarray
    lid_shadow: np.ndarray
    part: np.ndarray
    eye_angle: np.ndarray


def skin_tone(tone: np.ndarray) -> np.ndarray:
    """CIELAB colours (N, 3) of tones (N,) in [1, 10], interpolated between the ten."""
    lab = rgb2lab(np.array(MONK_TONES)[None])[0]
    return np.stack([np.interp(tone, np.arange(1, 11), lab[:, c]) for c in range(3)], -1)


def brow_mask(points: np.ndarray, eye_height: float) -> np.ndarray:
    """Hair density of the brows at points (N, 3) of the mean face, mm."""
    p = np.stack([np.abs(points[:, 0]), points[:, 1] - eye_height], -1)
    t = np.linspace(0, len(BROW) - 1, 60)
    line = np.stack([np.interp(t, np.arange(len(BROW)), BROW[:, c]) for c in range(3)], -1)
    distance = np.linalg.norm(p[:, None] - line[None, :, :2], axis=-1)
    nearest = distance.argmin(1)
    inside = distance.min(1) / line[nearest, 2]
    ends = np.clip(1.25 - 0.6 * nearest / 59, 0, 1)
    return np.exp(-(inside**3)) * ends


def blob(points: np.ndarray, centre, size) -> np.ndarray:
    """A smooth bump at +-x of `centre`, with half-widths `size`, mm."""
    p = points.copy()
    p[:, 0] = np.abs(p[:, 0])
    return np.exp(-((((p - centre) / size) ** 2).sum(1)))


def sample_albedo(masks: Masks, points: np.ndarray, tones, count: int, seed: int) -> np.ndarray:
    """`count` skins (count, V, 3) in sRGB, tones uniform in the range `tones` of the Monk scale."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, len(points), 3), np.float32)
    eye = masks.part == PARTS.index("eye")
    for n in range(count):
        tone = rng.uniform(*tones)
        dark = (tone - 1) / 9
        # skin is redder than the scale's swatches: blood shows, less so under more melanin
        red = max(rng.normal(1.0, 0.45), 0.1)
        lab = skin_tone(np.array([tone]))[0] + rng.normal(0, [1.8, 1.2, 2.0])
        lab += red * (1 - 0.45 * dark) * np.array([-1.5, 7.5, 1.0])
        lab[0] = max(lab[0], 8)
        lab = np.repeat(lab[None], len(points), 0)
        for _ in range(6):  # blotches: smooth, on both sides alike for the most part
            centre = points[rng.integers(len(points))] * [rng.choice([0.0, 1.0]), 1, 1]
            field = np.exp(-(((points - centre) / rng.uniform(25, 60)) ** 2).sum(1))
            lab += field[:, None] * rng.normal(0, [1.2, 0.8, 0.8])
        blood = np.clip(rng.normal(1.0, 0.5), 0, 2.5) * (1 - 0.6 * dark)
        lab += (masks.cheeks * blood)[:, None] * [-2.5, 5.0, 1.0]
        lab += (masks.nose * blood)[:, None] * [-2.0, 3.5, 0.8]
        lab += (masks.socket * np.clip(rng.normal(1, 0.6), 0, 2.5))[:, None] * [-4.0, 1.5, -1.0]
        lab += (masks.forehead * rng.normal(0.5, 0.5))[:, None] * [1.5, -0.5, 0.3]
        colour = lab2rgb(lab[None])[0]

        tint = np.array([0.83, 0.60, 0.60]) * (1 - dark) + np.array([0.92, 0.74, 0.78]) * dark
        lip = colour * (1 + (tint - 1) * np.clip(rng.normal(0.9, 0.35), 0.1, 2))
        colour += masks.lips[:, None] * (np.clip(lip, 0, 1) - colour)
        beard = max(rng.normal(0, 0.55), 0)
        shadow = np.array([0.70, 0.74, 0.79]) if dark < 0.5 else np.array([0.66, 0.66, 0.68])
        colour *= 1 + (shadow - 1) * (masks.beard * min(beard, 1.6))[:, None]
        light_hair = max(rng.normal(0.25 - 0.5 * dark, 0.22), 0)
        hair = np.array([0.10, 0.075, 0.06]) + light_hair * np.array([0.5, 0.38, 0.25])
        density = masks.brows * np.clip(rng.normal(0.62, 0.18), 0.05, 1)
        colour += density[:, None] * (hair - colour)
        colour += 0.75 * masks.lashes[:, None] * (np.array([0.09, 0.06, 0.05]) - colour)
        colour *= (0.35 + 0.65 * masks.occlusion)[:, None] ** 0.6

        shade = masks.occlusion[:, None]
        weights = np.array([1.0, 0.35, 0.35]) * rng.dirichlet([1.0, 0.6, 0.6])
        weights[1:] *= 1 - dark
        iris = IRIS_COLOURS.T @ (weights / weights.sum())
        a = masks.eye_angle[eye]
        ring = 1.15 - 0.55 * np.clip((a - 18) / (IRIS - 18), 0, 1)
        white = np.array([0.72, 0.68, 0.66]) * (1.0 - 0.2 * np.clip((a - 32) / 30, 0, 1))[:, None]
        in_iris = np.clip((IRIS + 1.2 - a) / 1.4, 0, 1)[:, None]
        in_pupil = np.clip((PUPIL + 1.4 - a) / 1.2, 0, 1)[:, None]
        eyeball = white + in_iris * (iris * ring[:, None] - white)
        colour[eye] = (eyeball + in_pupil * (0.025 - eyeball)) * masks.lid_shadow[eye, None]
        for name, (base, floor) in INSIDE.items():
            m = masks.part == PARTS.index(name)
            light = floor + (1 - floor) * np.clip(1.3 * shade[m], 0, 1) ** 0.7
            colour[m] = np.array(base) * light
        out[n] = np.clip(colour, 0, 1)
    return out


def principal_modes(x: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PCA of centred rows (N, D): basis (modes, D) times its standard deviations, the rows'
    coefficients (N, modes), and the share of variance that the first modes hold, (N,)."""
    values, vectors = np.linalg.eigh(x @ x.T / len(x))
    coefficients = vectors[:, ::-1][:, :modes] * np.sqrt(len(x))
    basis = coefficients.T @ x / len(x)
    sign = np.sign(basis[np.arange(modes), np.abs(basis).argmax(1)])
    return basis * sign[:, None], coefficients * sign, np.cumsum(values[::-1]) / values.sum()


def albedo_basis(samples: np.ndarray, modes: int):
    """Of samples (N, V, 3): mean (V, 3), basis (modes, V, 3), the samples' coefficients
    (N, modes), and the share of variance that the modes hold."""
    mean = samples.mean(0, dtype=np.float64)
    x = (samples - mean).reshape(len(samples), -1).astype(np.float64)
    basis, coefficients, share = principal_modes(x, modes)
    return mean, basis.reshape(modes, -1, 3), coefficients, float(share[modes - 1])
