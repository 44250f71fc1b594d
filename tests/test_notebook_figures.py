"""Figures of the notebooks, where they have to do with any face model."""

from dataclasses import replace

import numpy as np
import torch

from facerecon_lib.figures.own_photo import acting
from facerecon_lib.figures.slider_panels import MARK, Curves
from facerecon_lib.morphable_model import MorphableModel


def test_actions_that_a_model_does_not_name_are_its_modes():
    model = MorphableModel.load(subdivision=0)
    actions = {"jawOpen": 0.5, "mouthSmile": 1.0}
    assert torch.allclose(acting(model, actions), model.expression_from_controls(actions))
    nameless = acting(replace(model, controls={}), actions)
    assert nameless[0, :3].tolist() == [1.0, 2.0, 0.0]
    jaw_alone = replace(model, controls={"jawOpen": model.controls["jawOpen"]})
    both = acting(jaw_alone, actions) - model.expression_from_controls({"jawOpen": 0.5})
    torch.testing.assert_close(both[0, :3], torch.tensor([0.0, 2.0, 0.0]))
    mute = replace(model, controls={}, expression_basis=model.expression_basis[:0])
    assert acting(mute, actions).shape == (1, 0)


def test_a_plot_is_marked_behind_its_curves():
    curves = Curves(lambda axes: axes[0].plot([0, 1], [1, 1], color="black", lw=5), 1, (200, 160))
    marked = curves.marked([0.5])
    changed = (marked != curves.picture).any(-1)
    assert 0 < changed.sum() < 0.03 * changed.size
    assert (marked[changed] <= MARK).all()
    assert len(np.flatnonzero(changed.any(0))) == 2  # one line, two pixels wide
    dark = curves.picture.max(-1) < MARK
    assert (marked[dark] == curves.picture[dark]).all()
