"""Figures of the notebooks: what is drawn by hand in them."""

import numpy as np

from facerecon_lib.course.drawing.sliders import MARK, Curves


def test_a_plot_is_marked_behind_its_curves():
    curves = Curves(lambda axes: axes[0].plot([0, 1], [1, 1], color="black", lw=5), 1, (200, 160))
    marked = curves.marked([0.5])
    changed = (marked != curves.picture).any(-1)
    assert 0 < changed.sum() < 0.03 * changed.size
    assert (marked[changed] <= MARK).all()
    assert len(np.flatnonzero(changed.any(0))) == 2  # one line, two pixels wide
    dark = curves.picture.max(-1) < MARK
    assert (marked[dark] == curves.picture[dark]).all()
