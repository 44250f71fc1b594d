"""What `pytest --nbval` and `make test-notebooks` add to nbval. The root conftest.py loads it.

nbval compares text and leaves pictures out, their number too: here a cell must draw as many as are
stored, and each must look like the stored one. At the end: seconds per notebook, beside its budget.
"""

import base64
import io
import os
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facerecon_lib.course.exercises import OWN_FILES

BUDGET_S = 60
SEEN_AT = (48, 48)  # pictures are compared as small as this: other fonts or threads pass
MOST_DIFFERENCE = 6.0  # of 255: the mean over the small picture, and over its worst tile, / 4


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--nbval"):
        return
    # Kernels and xdist's workers inherit these.
    os.environ["FACERECON_PROFILE"] = "smoke"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    for name in ("MPLBACKEND", "NBGRADER_EXECUTION", *OWN_FILES):
        os.environ.pop(name, None)
    if not hasattr(config, "workerinput"):
        _warm_caches()
        config.pluginmanager.register(_Seconds(), "notebook-seconds")


def _warm_caches() -> None:
    """Fonts and kernels are prepared on a machine's first run; two notebooks at once would race."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib.font_manager  # noqa: F401
    import torch

    from facerecon_lib.rendering.rasterizer import rasterize

    corners = torch.tensor([[[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]]], requires_grad=True)
    triangle = torch.tensor([[0, 1, 2]])
    for settings in ({}, dict(blur_radius=1e-4, faces_per_pixel=4)):
        fragments = rasterize(corners, triangle, image_size=8, **settings)
        fragments.zbuf.sum().backward()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    result = yield
    stored = getattr(item, "cell", None)
    ignored = "nbval-ignore-output" in (stored or {}).get("metadata", {}).get("tags", [])
    if stored is not None and not ignored:
        compare_pictures(stored.outputs, item.test_outputs or [])
    return result


def compare_pictures(stored: list, drawn: list) -> None:
    """Raise AssertionError unless the cell drew what is stored, as seen from afar."""
    before, now = _pictures(stored), _pictures(drawn)
    assert len(now) == len(before), f"stored are {len(before)} pictures, drawn were {len(now)}"
    for i, (one, other) in enumerate(zip(before, now, strict=True)):
        assert other.size == one.size, f"picture {i + 1} was {one.size}, now {other.size}"
        a, b = (np.asarray(p.resize(SEEN_AT, Image.Resampling.BOX), float) for p in (one, other))
        error = np.abs(a - b).mean(axis=-1)
        tiles = error.reshape(8, SEEN_AT[1] // 8, 8, SEEN_AT[0] // 8).mean(axis=(1, 3))
        worst = max(error.mean(), tiles.max() / 4)
        assert worst <= MOST_DIFFERENCE, (
            f"picture {i + 1} does not look like the stored one: they differ by {worst:.1f} of 255"
        )


def _pictures(outputs: list) -> list[Image.Image]:
    """One for each output that shows any, stored as PNG or JPEG; Pillow's are drawn as both."""
    data = [output.get("data", {}) for output in outputs]
    files = [d.get("image/png") or d.get("image/jpeg") for d in data]
    return [Image.open(io.BytesIO(base64.b64decode(f))).convert("RGB") for f in files if f]


class _Seconds:
    """Adds up what each notebook took; told at the end, never asserted."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: dict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        if file.endswith(".ipynb"):
            self.seconds[file] += report.duration
            self.failed[file] += report.failed

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if not self.seconds:
            return
        terminalreporter.section("seconds per notebook")
        for file, seconds in sorted(self.seconds.items(), key=lambda f: Path(f[0]).name):
            path = Path(file)
            note = f"  {self.failed[file]} cells failed" if self.failed[file] else ""
            note += f"  above the budget of {BUDGET_S} s" if seconds > BUDGET_S else ""
            terminalreporter.write_line(
                f"{path.stem:32} {path.parent.name:10} {seconds:6.1f}{note}", yellow=bool(note)
            )
        total = sum(self.seconds.values())
        terminalreporter.write_line(f"{len(self.seconds)} runs, {total:.0f} s of kernel time")
