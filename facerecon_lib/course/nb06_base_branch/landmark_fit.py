"""Where landmarks lie, as a function of the numbers that an encoder says; and figures of a fit.

project = landmark_projection(model)
project(c.to_vector())                                 # (batch, 68, 2), crop pixels

Notebook 06, section 2.1.
"""

from collections.abc import Callable

from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from ...face.batch import FaceBatch
from ...face.camera import pose
from ...face.coefficients import FaceCoefficients
from ...face.morphable_model import MorphableModel
from ...pictures.faces import show_face, to_uint8
from ...rendering.synthesis import project_landmarks, synthesise
from ..drawing import style
from ..drawing.panels import error_view, shape_errors
from ..drawing.style import BLUE, RED


def landmark_projection(model: MorphableModel) -> Callable[[Tensor], Tensor]:
    """(batch, coefficient) to (batch, 68, 2), crop pixels; a face's depend on its own numbers."""
    points = model.landmark_model()

    def project(vector: Tensor) -> Tensor:
        c = FaceCoefficients.from_vector(vector, points.sizes)
        vertices = points.shape(c.identity, c.expression)
        v_camera = pose(vertices, c.rotation, c.scale, c.translation)
        return project_landmarks(points, v_camera, c.rotation, "2d")

    return project


def doubts_figure(
    model: MorphableModel, doubt: Float[Tensor, " coefficient"], noise: Float[Tensor, " 68"]
) -> Figure:
    """How far the encoder is off in each shape coefficient, and each landmark, as a circle."""
    figure, (left, right) = style.charts(9.6, 3.3, 2, width_ratios=[1.9, 1])
    identity, expression = model.sizes.identity, model.sizes.expression
    for name, start, count, colour in (
        ("identity", 0, identity, BLUE),
        ("expression", identity, expression, RED),
    ):
        places = range(start, start + count)
        left.bar(places, doubt[start : start + count], 1.0, color=colour, label=name)
    left.axhline(1, color="black", linestyle=":", label="the mean face: off by 1 in identity")
    left.set(xlabel="coefficient", ylabel="standard deviations", ylim=(0, 1.6))
    left.set_title("The encoder's doubt")
    style.add_legend(left, ncols=3, loc="upper left", fontsize=8.5)
    face, words = synthesise(model, model.neutral()), "The landmarks' noise, 3 times enlarged"
    style.picture(right, show_face(face, "shape", 300), words)
    for place, pixels in zip(face.landmarks("2d")[0].tolist(), noise.tolist(), strict=True):
        right.add_patch(Circle(place, 3 * pixels, color=RED, alpha=0.5, linewidth=0))
    return figure


def refined_figure(
    model: MorphableModel, batch: FaceBatch, before: FaceCoefficients, after: FaceCoefficients
) -> Figure:
    """Each stranger's error before and after; maps of the largest gain and the largest loss."""
    errors = [shape_errors(model, c, batch.truth) for c in (before, after)]
    (first, then), most = (e.mean(1) for e in errors), 5.0
    title = f"{len(batch)} rendered strangers: {first.mean():.2f} mm, then {then.mean():.2f}"
    figure = style.page(10.4, 4.3, title)
    grid = figure.add_gridspec(2, 4, width_ratios=[2.3, 1, 1, 1])
    plot = figure.add_subplot(grid[:, 0])
    axes = [[figure.add_subplot(grid[row, column]) for column in (1, 2, 3)] for row in (0, 1)]
    end = 1.08 * float(max(first.max(), then.max()))
    plot.plot([0, end], [0, end], color="0.75", linewidth=1)
    plot.scatter(first, then, s=26, color=BLUE)
    plot.set(xlabel="the encoder alone, mm", ylabel="with the landmarks, mm")
    plot.set(xlim=(0, end), ylim=(0, end))
    order = (first - then).argsort().tolist()
    for name, i, row in (("gain", order[-1], axes[0]), ("loss", order[0], axes[1])):
        maps = [error_view(model, batch.truth[i], error[i], most) for error in errors]
        words = f"before: {first[i]:.1f} mm", f"after: {then[i]:.1f} mm"
        style.fill(row, [to_uint8(batch.image[i]), *maps], (f"the largest {name}", *words))
    style.colour_bar(figure, most, "error, mm", ax=figure.axes[1:], shrink=0.6, aspect=18)
    return figure
