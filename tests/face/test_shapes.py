"""One check of shapes: what fits gives its sizes, what does not says what to do."""

import re

import numpy as np
import pytest
import torch

from facerecon_lib.face.shapes import expect


def test_a_shape_that_fits_gives_the_sizes_of_its_named_axes():
    assert expect("v", torch.zeros(2, 5, 3), "batch vertex 3") == {"batch": 2, "vertex": 5}
    assert expect("n", np.zeros((4, 5, 3)), "... 3") == {}
    assert expect("n", torch.zeros(3), "... 3") == {}
    assert expect("i", torch.zeros(2, 3, 8, 8), "batch 3 size size")["size"] == 8
    sizes = expect("v", torch.zeros(2, 5, 3), "batch vertex 3")
    assert expect("w", torch.zeros(2, 5), "batch vertex", **sizes) == sizes


@pytest.mark.parametrize(
    ("shape", "spec", "message"),
    [
        ((1, 3, 9), "batch vertex 3", "expected (batch, vertex, 3), got (1, 3, 9): transpose it?"),
        ((3, 50), "batch vertex 3", "got (3, 50): transpose it?"),
        ((5, 3), "batch vertex 3", "got (5, 3): add the batch axis with [None]"),
        ((5, 2), "batch vertex 3", "x: expected (batch, vertex, 3), got (5, 2)"),
        ((), "... 3", "x: expected (..., 3), got ()"),
        ((3, 5), "... 3", "x: expected (..., 3), got (3, 5): transpose it?"),
        ((2, 3, 8, 9), "batch 3 size size", "x: expected (batch, 3, size, size), got (2, 3, 8, 9)"),
        ((4,), "68", "x: expected (68,), got (4,)"),
    ],
)
def test_another_shape_is_refused_in_one_line_that_says_what_to_do(shape, spec, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        expect("x", torch.zeros(shape), spec)


def test_sizes_of_an_earlier_call_and_a_hint_stand_in_the_message():
    with pytest.raises(ValueError, match=r"^colours: expected \(2, 5, 3\), got \(2, 4, 3\)$"):
        expect("colours", torch.zeros(2, 4, 3), "batch vertex 3", batch=2, vertex=5)
    with pytest.raises(ValueError, match=r"got \(1, 27\): one row per harmonic$"):
        expect("lighting", torch.zeros(1, 27), "batch 9 3", "one row per harmonic")
