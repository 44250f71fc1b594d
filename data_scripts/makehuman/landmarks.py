"""The 68 landmarks in the iBUG order, as vertices of MakeHuman's mesh, and the bands of the jaw.

Placed by anatomy on renderings; within a set (lid rims, the line of the lips, the midline) it is
the vertex nearest to a detector's points on 72 rendered faces, both sides alike. Points 1 to 17 are
where the detector puts the jaw on a frontal face.

Notebook 01, Eq. 1.
"""

import numpy as np

# fmt: off
LANDMARKS = (
    5564, 5763, 5246, 5206, 735, 5298, 5295, 5221, 747,  # 1-9: jaw, the viewer's left to the chin
    11831, 11901, 11903, 7455, 11817, 11854, 12360, 12161,  # 10-17: chin to the viewer's right
    5261, 231, 229, 230, 235, 7007, 7003, 7002, 7004, 11869,  # 18-27: brows
    136, 131, 164, 294,  # 28-31: ridge of the nose
    344, 313, 317, 7076, 7105,  # 32-36: base of the nose
    1088, 1081, 1099, 1103, 1096, 1094,  # 37-42: the eye on the viewer's left
    7795, 7791, 7773, 7780, 7786, 7788,  # 43-48: the eye on the viewer's right
    3709, 5351, 450, 455, 7210, 11953, 10377,  # 49-55: upper edge of the lips
    7239, 7241, 492, 486, 484,  # 56-60: lower edge of the lips
    530, 539, 537, 7283, 7275, 7279, 540, 534,  # 61-68: inner edge of the lips
)
# fmt: on


def contour_bands(mean: np.ndarray, landmarks: np.ndarray, skin: np.ndarray, most=10**6):
    """For each of points 1 to 17 the vertices that its silhouette can lie on when the head turns.

    A band holds the skin in the same direction from the middle of the face, from the point itself
    inwards; of more than `most` vertices every second, third or so. mean (V, 3) mm, landmarks
    (68,), skin (V,) bool. Returns (17, widest), padded with the point, which changes no maximum.
    """
    x, y = mean[:, 0], mean[:, 1] - mean[landmarks[30], 1]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    jaw = landmarks[:17]
    bands = []
    for i, vertex in enumerate(jaw):
        beside = jaw[[k for k in (i - 1, i + 1) if 0 <= k < 17]]
        others = np.abs(np.angle(np.exp(1j * (angle[vertex] - angle[beside]))))
        near = np.abs(np.angle(np.exp(1j * (angle - angle[vertex])))) < min(others) / 2
        inward = (radius > 0.6 * radius[vertex]) & (radius < 1.02 * radius[vertex])
        depth = mean[:, 2] > mean[vertex, 2] - (12 if 4 <= i <= 12 else 2)
        band = np.nonzero(near & inward & depth & skin)[0]
        band = np.r_[vertex, band[band != vertex]]
        bands.append(np.r_[vertex, band[1 :: -(-len(band) // most)]])
    width = max(map(len, bands))
    return np.array([np.r_[b, np.full(width - len(b), b[0])] for b in bands])
