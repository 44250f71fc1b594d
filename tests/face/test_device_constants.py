"""Constants: one tensor a device for all calls, fit for training, and no step that needs more."""

import multiprocessing
import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facerecon_lib.face.camera import ndc_to_pixels, pixels_to_ndc, pose, project_ndc
from facerecon_lib.face.coefficients import FaceCoefficients
from facerecon_lib.face.colour import skin_tone_group
from facerecon_lib.face.device_constants import constant
from facerecon_lib.fitting.losses import offset_symmetry_loss
from facerecon_lib.networks.face_networks import CHIPS
from facerecon_lib.networks.recognition import chip_matrix, cut_chips
from facerecon_lib.rendering.synthesis import synthesise

CPU = torch.device("cpu")
# What makes a GPU wait: a Python list turned into a tensor, and a value, or a number of values,
# that the host has to know.
WAITS = ("lift_fresh", "_local_scalar_dense", "nonzero", "equal", "_linalg_check_errors")


class Waits(TorchDispatchMode):
    """Counts what would make a GPU wait, on the CPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if masks or name in WAITS:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0.1, 0.2), torch.float32),
        ((0.1, 0.2), torch.float64),
        (((3, 4, 0), (3, 1, 4)), torch.long),
        ((0.1 + 0.2j, -1j), torch.complex128),
    ],
)
def test_it_holds_what_torch_tensor_holds_and_is_built_once(values, dtype):
    found = constant(values, dtype, CPU)
    assert found.dtype == dtype
    assert torch.equal(found, torch.tensor(values, dtype=dtype))
    assert constant(values, dtype, CPU) is found


def test_made_in_inference_it_serves_training():
    with torch.inference_mode():
        made = constant((2.0, 3.5), torch.float64, CPU)
    assert not made.is_inference()
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (x * constant((2.0, 3.5), torch.float64, CPU)).sum().backward()
    assert x.grad.tolist() == [2.0, 3.5]


def _child():
    good = torch.equal(constant((5.0, 6.0), torch.float32, CPU), torch.tensor([5.0, 6.0]))
    os._exit(0 if good else 1)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here"
)
def test_it_survives_a_fork():
    constant((5.0, 6.0), torch.float32, CPU)
    child = multiprocessing.get_context("fork").Process(target=_child)
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_the_camera_does_not_change_them():
    kind = (torch.float32, CPU)
    points = torch.randn(1, 5, 3)
    centre = constant((112.0, 112.0), *kind)
    pixels = ndc_to_pixels(points, 224)
    pixels.mul_(2)  # what a caller does with the result
    pixels_to_ndc(pixels, 224).add_(1)
    assert centre.tolist() == [112.0, 112.0]
    assert centre._version == 0


def test_a_step_asks_nothing_of_the_host(model):
    """Rendering, landmarks, chips and their gradients, after a first step has built constants."""
    chip, colour = CHIPS["dlib"], torch.zeros(3)

    def step():
        c = FaceCoefficients.mean(2, *model.sizes, device=model.device)
        c.rotation.requires_grad_()
        face = synthesise(model, c)
        image, mask = face.render(near=None, background=0.5)
        points = face.landmarks("2d")
        matrix = chip_matrix(points, chip, check=False)
        chips = cut_chips(image, matrix, chip, colour, mask)
        mirrored = offset_symmetry_loss(image, displacement=True)
        (chips.sum() + points.sum() + mirrored).backward()
        return skin_tone_group(face.albedo.mean(1).detach())

    step()
    with Waits() as waits:
        step()
    # filling a row with a number: on CUDA a kernel's argument
    waits.found.remove("lift_fresh")
    assert waits.found == []


def test_the_counter_counts():
    x = torch.randn(4)
    with Waits() as waits:
        x.new_tensor([1.0])
        x[[0, 1]]
        float(x.sum())
        x[x > 0]
    assert sorted(waits.found) == ["_local_scalar_dense", "index", "lift_fresh", "lift_fresh"]


def test_pose_and_projection_are_the_same_under_constants():
    """Against the same products written with tensors made on the spot, to the last bit."""
    generator = torch.Generator().manual_seed(0)
    v, r, t = (torch.randn(shape, generator=generator) for shape in ((2, 7, 3), (2, 3), (2, 3)))
    found = pose(v, 0 * r, torch.ones(2, 1), t)
    expected = v @ torch.diag(torch.tensor([-1.0, 1.0, -1.0])).T + t[:, None]
    assert torch.equal(found, expected)
    assert torch.equal(
        ndc_to_pixels(project_ndc(found), (40, 60)),
        torch.tensor([30.0, 20.0]) - 20.0 * project_ndc(found)[..., :2],
    )
