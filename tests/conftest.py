"""What every test shares: `--slow`, few threads, a fixed seed, and no drawing on a screen."""

import os

import matplotlib
import pytest
import small_faces
import torch
from hypothesis import settings

from facerecon_lib.course.exercises import OWN_FILES
from facerecon_lib.face.morphable_model import MorphableModel

# Examples are drawn alike in every run, and none is failed for a slow machine.
settings.register_profile("course", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("course")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config: pytest.Config) -> None:
    matplotlib.use("Agg")  # not $MPLBACKEND: the notebooks' kernels would inherit it
    # Small tensors gain little from more, and threads wait long for each other on a busy machine.
    torch.set_num_threads(1)
    for name in OWN_FILES:  # tests are of what ships
        os.environ.pop(name, None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = pytest.mark.skip(reason="slow: run it with --slow, or make test-all")
    gpu = pytest.mark.skip(reason="gpu: this machine has no CUDA device")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(slow)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(gpu)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def model() -> MorphableModel:
    """The shipped face model at its native density."""
    return small_faces.model()


@pytest.fixture
def generator() -> torch.Generator:
    """A generator that starts alike in every test."""
    return torch.Generator().manual_seed(0)
