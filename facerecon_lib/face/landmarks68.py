"""The 68 landmarks in iBUG's order: their groups, counted from 0, and their mirror images.

    model.landmarks[list(OUTER_EYES)]                     # the vertices of points 37 and 46
    mirrored = landmarks[MIRROR_68] * (-1, 1) + (width, 0)

Right and left are the person's. Notebook 02, section 2.1.
"""

import numpy as np

JAW = slice(0, 17)  # 2D detectors put these on the visible outline, 3D detectors on the jaw
INNER = slice(17, 68)  # all the others, which stay where they are on the skin
BROWS, NOSE, EYES, MOUTH = slice(17, 27), slice(27, 36), slice(36, 48), slice(48, 68)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
EYE_CORNERS = 36, 39, 42, 45  # from the viewer's left to right
OUTER_EYES = 36, 45
NOSE_TIP, NOSE_BOTTOM = 30, 33
MOUTH_CORNERS = 48, 54

FIVE = (RIGHT_EYE, LEFT_EYE, slice(30, 31), slice(48, 49), slice(54, 55))
"""The groups whose means are a face detector's five points: eyes, nose tip, mouth corners."""

MIRROR_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1)]
    + [64, 63, 62, 61, 60, 67, 66, 65]
)
"""Point i of the mirrored picture is point MIRROR_68[i] of the picture."""
