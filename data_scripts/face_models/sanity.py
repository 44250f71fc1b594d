"""Is it a face, in millimetres, upright, and in standard deviations? One line that says what not.

    check_arrays(source)                                   # shapes, numbers, extent
    check_face(mean, faces, landmarks)                     # size and axes
    check_places(missed)                                   # a landmark on a wrong vertex
    check_motion(identity, expression, named=False)        # what a unit coefficient moves

Each raises ImportModelError. Notebook 01, Eq. 1.
"""

import numpy as np

from face_models.registration import INNER_POINTS
from face_models.tables import ImportModelError
from facerecon_lib.face.shapes import expect, expect_fields

EXTENT_MM = (100.0, 1000.0)  # a cropped face to a bust
EYES_MM = (60.0, 130.0)  # between the outer corners; people: about 80 to 100
MOVES_MM = (0.01, 30.0)  # the furthest that one standard deviation moves a vertex
ACTION_MM = 80.0  # the same of a full action, such as an open jaw
FAR_OFF_MM = 25.0  # ICT-FaceKit's own are 8 at most; on a wrong vertex, 50 and more
UPRIGHT = 0.8  # least cosine between the face's axes and the frame's: about 37 degrees
NUMBERS = ("faces", "landmarks", "mirror", "creases")  # of vertices


def check_arrays(source) -> None:
    """Every part has the shape that the others ask for, is finite, and the mean spans a head."""
    try:
        expect_fields(source)
        for name, row in source.controls.items():
            expect(f"control {name!r}", row, "expression", expression=len(source.expression))
    except ValueError as error:
        raise ImportModelError(str(error)) from None
    count = len(source.mean)
    parts = {name: value for name, value in vars(source).items() if isinstance(value, np.ndarray)}
    for name, value in parts.items():
        if not np.isfinite(value).all():
            raise ImportModelError(f"{name} holds numbers that are not finite: is the file whole?")
        if name in NUMBERS and value.size:
            if value.dtype.kind not in "iu":
                raise ImportModelError(f"{name} holds {value.dtype}, expected whole numbers")
            least = -1 if name == "landmarks" else 0  # -1: to be detected
            if value.min() < least or value.max() >= count:
                names = f"{name} names vertices {value.min()} to {value.max()}"
                todo = "is it of another mesh, or counted from 1?"
                raise ImportModelError(f"{names}, but there are 0 to {count - 1}: {todo}")
    if "albedo" in parts and "albedo_mean" not in parts:
        raise ImportModelError("there are albedo modes without a mean: give albedo_mean too")
    if not len(source.identity) or not len(source.faces):
        raise ImportModelError("there are no identity modes, or no triangles")
    extent = float(np.ptp(source.mean[np.unique(source.faces)], axis=0).max())
    if not EXTENT_MM[0] <= extent <= EXTENT_MM[1]:
        expected = "expected {:.0f} to {:.0f}".format(*EXTENT_MM)
        todo = "are its units what the importer takes them for?"
        raise ImportModelError(f"the mean is {extent:.4g} mm across, {expected}: {todo}")


def check_face(mean: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> None:
    """The landmarks make a face of plausible size that stands upright and looks along +z."""
    p = mean[landmarks]
    across, up = p[45] - p[36], (p[36] + p[45]) / 2 - p[8]
    eyes = float(np.linalg.norm(across))
    if not EYES_MM[0] <= eyes <= EYES_MM[1]:
        expected = "expected {:.0f} to {:.0f}".format(*EYES_MM)
        todo = "check the units and the landmarks (iBUG points 37 and 46)"
        raise ImportModelError(f"the outer eye corners are {eyes:.4g} mm apart, {expected}: {todo}")
    cosine = across[0] / eyes, up[1] / max(float(np.linalg.norm(up)), 1e-9)
    out = p[30, 2] - p[[36, 45], 2].mean()
    if min(cosine) < UPRIGHT or out < 0:
        raise ImportModelError(
            "the face is not upright and looking along +z (its eyes run to the viewer's right with "
            f"cosine {cosine[0]:.2f}, up from the chin is +y with {cosine[1]:.2f}, the nose is "
            f"{out:.0f} mm before the eyes): check the axes and the landmarks' order"
        )
    near = np.linalg.norm(mean[faces].mean(1) - p[30], axis=1) < eyes / 2
    a, b, c = np.moveaxis(mean[faces[near]], 1, 0)
    if np.cross(b - a, c - a)[:, 2].sum() <= 0:
        raise ImportModelError("the triangles around the nose face inwards: wound clockwise")


def check_places(missed: np.ndarray) -> None:
    """No landmark but the jaw's is far (missed: mm) from where the shipped face, fitted, has it."""
    worst = INNER_POINTS[np.argmax(missed[INNER_POINTS])]
    if missed[worst] > FAR_OFF_MM:
        place = f"{missed[worst]:.0f} mm from where a face has it"
        todo = "is its vertex the right one, and counted from 0? --landmarks FILE names others"
        raise ImportModelError(f"landmark {worst + 1} (of 68) lies {place}: {todo}")


def check_motion(identity: np.ndarray, expression: np.ndarray, named: bool) -> None:
    """One unit of each coefficient moves neither nothing nor a head's length.

    named: whether expressions are full actions.
    """
    most = {"identity": MOVES_MM[1], "expression": ACTION_MM if named else MOVES_MM[1]}
    for name, basis in (("identity", identity), ("expression", expression)):
        moves = np.linalg.norm(basis, axis=-1).max(1)
        if len(basis) and not MOVES_MM[0] <= moves.max() <= most[name]:
            unit = f"one unit of {name} mode {moves.argmax() + 1} moves a vertex by"
            sizes = f"{moves.max():.3g} mm, expected {MOVES_MM[0]:g} to {most[name]:g}"
            todo = "check the units, and whether the basis is scaled by its standard deviations"
            raise ImportModelError(f"{unit} {sizes}: {todo}")
