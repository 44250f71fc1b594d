"""A slider moved in JupyterLab, in a real browser: the picture must follow.

Skipped where no Chromium or Chrome is found (Debian: apt install chromium; FACERECON_BROWSER names
another place). `python -m pytest tests/course/test_browser.py -s` prints how long a redraw takes,
from the key press to the changed picture; with --slow the sliders of every notebook are moved.
"""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import nbformat
import pytest
from script_runs import lab_options

from facerecon_lib.photos.detection import ASSETS

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("FACERECON_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
SOLUTIONS = Path(__file__).parents[2] / "solutions"
TOKEN = "slider-test"  # the server listens on this machine alone

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")

IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"

# One control of each kind around the renderer, as the notebooks have them.
CELLS = (
    "from facerecon_lib.course import setup\nsetup()",
    """from facerecon_lib.course import widgets
from facerecon_lib.pictures import faces
from facerecon_lib.face.morphable_model import MorphableModel

model = MorphableModel.load(subdivision=0)

def draw(yaw, jaw, look, upright):
    coefficients = model.neutral()
    coefficients.expression = model.expression_from_controls({"jawOpen": jaw})
    face = faces.turned(model, coefficients, yaw if upright else -yaw)
    return faces.show_face(face, look, 320)

widgets.explore(
    draw, yaw=(-60, 60, 20), jaw=(0.0, 1.0, 0.2), look=["studio", "shape"], upright=True
)""",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over an empty folder; gives the folder and the server's address."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folder / ".home"
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}", "--allow-root"]
    command += lab_options()
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    log = (folder / ".log").open("w+")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).read()
                break
            assert server.poll() is None, (
                f"JupyterLab stopped:\n{Path(log.name).read_text()[-2000:]}"
            )
            time.sleep(0.25)
        else:
            pytest.fail(f"JupyterLab did not answer:\n{Path(log.name).read_text()[-2000:]}")
        yield folder, address
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Its camera films the bundled photo, over and over."""
    film = tmp_path_factory.mktemp("film") / "face.mjpeg"
    film.write_bytes((ASSETS / "astronaut.jpg").read_bytes() * 3)
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    switches = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    switches += ["--disable-background-networking", "--disable-component-update", "--disable-quic"]
    switches += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    switches += [f"--use-file-for-fake-video-capture={film}"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=switches)
        yield started
        started.close()


@pytest.fixture
def opened(lab, browser):
    """Opens a notebook of the folder, or one of these cells, and runs all of its cells."""
    folder, address = lab
    page = browser.new_page(viewport={"width": 1200, "height": 1000})

    def open_and_run(path: str, cells: Sequence[str] = ()):
        if cells:
            notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
            nbformat.write(notebook, folder / path)
        page.goto(f"{address}/doc/tree/{path}?token={TOKEN}", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
        page.wait_for_selector(IDLE, state="attached", timeout=90_000)
        for _ in range(5):  # a click while JupyterLab is still loading does nothing
            page.locator(".jp-Notebook").first.click(position={"x": 5, "y": 5})
            page.get_by_text("Run", exact=True).first.click()
            page.get_by_text("Run All Cells", exact=True).click()
            running = page.locator(".jp-InputPrompt", has_text="[*]").first
            with contextlib.suppress(Exception):
                running.wait_for(state="attached", timeout=8_000)
                return page
        pytest.fail("JupyterLab did not start to run the cells")

    yield open_and_run
    page.close()


PIXELS = """async () => {
    const image = document.querySelector('img.widget-image');
    await image.decode();
    const canvas = new OffscreenCanvas(32, 32).getContext('2d');
    canvas.drawImage(image, 0, 0, 32, 32);
    return Array.from(canvas.getImageData(0, 0, 32, 32).data);
}"""


def pixels(page) -> list[int]:
    """The widget's picture as the browser decodes it, reduced to 32 x 32."""
    return page.evaluate(PIXELS)


def difference(one: list[int], other: list[int]) -> float:
    return statistics.fmean(abs(a - b) for a, b in zip(one, other, strict=True))


def seconds_until_changed(page, image, change: Callable[[], object]) -> float:
    """Until the change has given the picture a new address, as every redraw does."""
    before, start = image.get_attribute("src"), time.perf_counter()
    change()
    page.wait_for_function(
        "([image, before]) => image.src !== before",
        arg=[image.element_handle(), before],
        polling=2,
        timeout=60_000,
    )
    return time.perf_counter() - start


def test_a_moved_slider_changes_the_picture(opened):
    page = opened("sliders.ipynb", CELLS)
    page.wait_for_selector("img.widget-image", timeout=120_000)
    image, first = page.locator("img.widget-image").first, pixels(page)
    page.locator(".widget-slider .noUi-handle").first.focus()
    left = partial(page.keyboard.press, "ArrowLeft")
    seconds = [seconds_until_changed(page, image, left) for _ in range(10)]
    turned = pixels(page)
    assert difference(first, turned) > 1, "the head did not turn"
    print(f"\nredraw, key press to picture: median {1000 * statistics.median(seconds):.0f} ms")

    menu = page.locator(".widget-dropdown select").first
    seconds_until_changed(page, image, partial(menu.select_option, "shape"))
    assert difference(turned, pixels(page)) > 1, "the look did not change"
    seconds_until_changed(page, image, page.locator(".widget-checkbox input").first.click)


PHOTO_CELLS = (
    """from facerecon_lib.course.nb10_own_photo.photo_input import choose_photo
mine = choose_photo()""",
    """from facerecon_lib.course.widgets import offer_files
offer_files({"me.txt": lambda: mine.photo.name.encode()})""",
)


def test_the_camera_and_an_upload_reach_python_and_a_file_comes_back(opened, tmp_path):
    page = opened("photo.ipynb", PHOTO_CELLS)
    page.get_by_text("Take a picture", exact=False).first.click(timeout=120_000)
    page.get_by_text("Take the picture", exact=True).click(timeout=60_000)
    page.get_by_text("the camera's picture: taken").wait_for(timeout=120_000)
    assert page.locator("video").count() == 0, "the camera is let go"
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Upload a photo", exact=False).first.click()
    chooser.value.set_files(ASSETS / "astronaut.jpg")
    page.get_by_text("astronaut.jpg: taken").wait_for(timeout=120_000)
    large = tmp_path / "large.jpg"
    large.write_bytes((ASSETS / "astronaut.jpg").read_bytes() + bytes(25 * 2**20))
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Upload a photo", exact=False).first.click()
    chooser.value.set_files(large)
    page.get_by_text("large.jpg: taken").wait_for(timeout=120_000)
    page.locator("button", has_text="me.txt").click()
    with page.expect_download() as download:
        page.get_by_text("save me.txt").click(timeout=60_000)
    assert Path(download.value.path()).read_text() == "large.jpg"


def notebooks_with_sliders() -> list[Path]:
    return [p for p in sorted(SOLUTIONS.glob("*.ipynb")) if "widgets.explore(" in p.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("path", notebooks_with_sliders(), ids=lambda path: path.stem)
def test_the_sliders_of_a_notebook_move_its_pictures(lab, opened, path):
    """Every slider, run by itself: each has a picture of its own, which changes."""
    shutil.copy(path, lab[0] / path.name)
    page = opened(path.name)
    page.wait_for_timeout(3000)
    page.wait_for_selector(IDLE, state="attached", timeout=300_000)
    cells = nbformat.read(path, 4).cells
    expected = sum("widgets.explore(" in c.source for c in cells if c.cell_type == "code")
    moved, deadline = 0, time.monotonic() + 240
    while moved < expected and time.monotonic() < deadline:
        # the photo's chooser has a picture and no slider
        boxes = page.locator(".widget-vbox:has(> img.widget-image):has(.noUi-handle)")
        for box in boxes.all():
            if box.get_attribute("data-moved"):
                continue
            box.scroll_into_view_if_needed()
            box.locator(".noUi-handle").first.focus()
            up = partial(page.keyboard.press, "PageUp")
            seconds = seconds_until_changed(page, box.locator("img.widget-image"), up)
            assert not box.locator(".widget-html code").count(), box.inner_text()
            box.evaluate("box => box.setAttribute('data-moved', 'yes')")
            moved += 1
            print(f"\n{path.stem}: slider {moved} of {expected}: {1000 * seconds:.0f} ms")
        page.mouse.move(600, 500)
        page.mouse.wheel(0, 700)  # cells far below the view may not be in the page yet
        page.wait_for_timeout(300)
    assert moved == expected
