"""The weights of the losses: the report's, and ours for fitting and for training.

    loss = weighted_sum(terms, REPORT_WEIGHTS)

Notebooks 05 and 08, Eq. 7 and 12.
"""

from collections.abc import Mapping
from types import MappingProxyType


def _table(**weights: float) -> Mapping[str, float]:
    return MappingProxyType(weights)


JAW_WEIGHT = 0.3
"""Of the 17 jaw points in Eq. 5: a 2D detector marks an outline there, not a place on the face."""

_EQ_7 = dict(pixel=1.0, landmark=1.0, recognition=20.0)

REPORT_WEIGHTS = _table(
    **_EQ_7, offset_l2=1e-4, offset_symmetry=1e-4, smooth_shape=0.08, smooth_albedo=0.1
)
"""Eq. 7 and Eq. 12 as printed. They belong to `reduction="sum"`: pixel is then in the thousands."""

RECOGNITION_WEIGHTS = _table(facenet=20.0, dlib=64.0)
"""Eq. 7's weight of Eq. 6 for either network, beside the other sums.

The report's 20 is for a network like facenet, whose 512 numbers have length 1: two people lie at an
L1 distance of 25.5. dlib's 128 numbers of two people differ by 7.9: 20 · 25.5 / 7.9 = 64.
"""

_PHOTO = dict(pixel=300.0, landmark=0.8)  # robust pixel term as a mean; landmarks in crop pixels

_FACE = dict(identity=0.006, expression=0.005, action_range=0.6, albedo=0.004, scale=0.02)
_LIGHT = dict(light_grey=0.5, light_level=0.5, light_bands=0.03)

FIT_WEIGHTS = _table(**_PHOTO, **_FACE, **_LIGHT)
"""Analysis by synthesis on one photo: priors summed over modes."""

FIT_RECOGNITION_WEIGHTS = _table(facenet=0.08, dlib=0.25)
"""Eq. 6 beside FIT_WEIGHTS: as long a gradient on the identity as that of the landmarks, with dlib.

On 13 photos the distance of rendering and photo falls from 0.70 to 0.52 and the inner landmarks'
error grows from 1.76 to 1.83 % of the eye distance (with 1.0: 0.40 and 2.16 %, and only four of ten
rendered faces converge). facenet's follows from RECOGNITION_WEIGHTS, untried.
"""

PRIORS = (*_FACE, *_LIGHT)
"""Ours; a weight of 0 gives the report back."""

TRAIN_WEIGHTS = _table(**FIT_WEIGHTS, recognition=0.25)
"""Training the encoder on photos: the weights of fitting, with means; recognition is dlib's."""

RENDERED_WEIGHTS = _table(
    **_PHOTO,
    **dict(recognition=0.5, action_range=0.6, scale=0.02),
    **dict(truth_shape=1.0, truth_expression=1.0, truth_albedo=50.0),
    **dict(truth_pose=30.0, truth_light=10.0),
)
"""Training it on rendered faces: the known truth replaces the priors that stand for it."""


def _offset_terms(texture: float, displacement: float, shape: float, albedo: float) -> dict:
    """Eq. 8 and 9 have one weight per map, Eq. 10 and 11 one each."""
    return dict(
        texture_l2=texture,
        displacement_l2=displacement,
        texture_symmetry=texture,
        displacement_symmetry=displacement,
        smooth_shape=shape,
        smooth_albedo=albedo,
    )


AUGMENTED_REPORT_WEIGHTS = _table(**_EQ_7, **_offset_terms(1e-4, 1e-4, 0.08, 0.1))
"""Eq. 12 with a name for either map: for sums, facenet's features and the final mesh."""

AUGMENTED_WEIGHTS = _table(**_PHOTO, recognition=0.25, **_offset_terms(3.0, 0.3, 3.0, 100.0))
"""Ours for photos: Eq. 12's terms as means, the smoothness of the offsets instead of the face."""

AUGMENTED_RENDERED_WEIGHTS = _table(
    **_PHOTO,
    recognition=0.25,
    **_offset_terms(0.1, 0.01, 0.3, 10.0),
    **dict(truth_texture=300.0, truth_normals=100.0, truth_vertices=1.0),
)
"""Ours for rendered faces: the truth tells texture from shape; the rest can be weak."""

DEPTH_WEIGHTS = _table(true_normals=100.0, true_depth=0.1)
"""The depth network of notebook 13, on rendered faces: 1 - cosine, and mm of depth."""

LEARNED_WEIGHTS = _table(**FIT_WEIGHTS, smooth_basis=10.0, sparse_albedo=2.0)
"""A model learned from pictures: fitting's, and what keeps its bases smooth and its skin plain."""

_MAPS = dict(detail=0.002, symmetry=0.2)

NONLINEAR_WEIGHTS = _table(pixel=300.0, constancy=1.0, code=0.05, detail=0.1, symmetry=1.0)
"""The nonlinear model on photos, through the renderer."""

NONLINEAR_RENDERED_WEIGHTS = _table(
    **_MAPS,
    shape=1.0,
    coded_shape=1.0,
    linear_shape=1.0,
    albedo=10.0,
    coded_albedo=10.0,
    linear_albedo=10.0,
)
"""The nonlinear model and the linear one beside it, on rendered faces: mm, and tenths of colour."""
