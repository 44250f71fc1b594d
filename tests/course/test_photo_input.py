"""A photo of one's own in a notebook: every way in, and what is not a photo of a face."""

import base64
import datetime
import io
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import ipywidgets
import numpy as np
import pytest
from IPython import display
from jupyter_server.serverapp import ServerApp
from PIL import Image
from script_runs import lab_options

from facerecon_lib.course import widgets
from facerecon_lib.course.nb10_own_photo import photo_input
from facerecon_lib.course.nb10_own_photo.photo_input import ChosenPhoto, choose_photo
from facerecon_lib.photos.detection import ASSETS, sample_detection, sample_photo
from facerecon_lib.reconstruction.mesh_export import mesh_file

SAMPLE = ASSETS / "astronaut.jpg"


def stored(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, format=form)
    return out.getvalue()


def mirrored() -> bytes:
    """A photo that is not the sample, with a face in it."""
    return stored(Image.fromarray(sample_photo().pixels[:, ::-1].copy()), "JPEG")


def captured() -> str:
    """It, as the camera hands it over."""
    return "data:image/jpeg;base64," + base64.b64encode(mirrored()).decode()


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100)


@pytest.fixture
def made(monkeypatch):
    """The widgets that are made, by kind, and as "shown" what is displayed."""
    made = {"shown": []}
    monkeypatch.setattr(display, "display", lambda bundle, raw=False: made["shown"].append(bundle))
    for kind in ("FileUpload", "Button", "Textarea", "Image", "HTML"):
        plain = getattr(ipywidgets, kind)

        def make(*args, _plain=plain, _kind=kind, **settings):
            made.setdefault(_kind, []).append(_plain(*args, **settings))
            return made[_kind][-1]

        monkeypatch.setattr(ipywidgets, kind, make)
    return made


def test_without_a_person_it_is_the_bundled_photo(made):
    chosen, [bundle] = choose_photo(), made["shown"]
    assert chosen.photo.name == sample_photo().name
    np.testing.assert_array_equal(chosen.detection.landmarks, sample_detection().landmarks)
    assert chosen.crop.image.shape == (1, 3, 224, 224)
    assert set(bundle) == {widgets.WIDGET_VIEW, "image/png", "text/plain"}
    still = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert still.width == 224
    assert still.height > 224, "a line beneath says what to do"
    assert "nothing is saved" in made["HTML"][1].value
    assert made["FileUpload"][0].accept == "image/*"


def test_an_upload_takes_the_samples_place_and_shows(made):
    chosen = choose_photo()
    before = made["Image"][0].value
    upload = made["FileUpload"][0]
    file = {"name": "me.jpg", "type": "image/jpeg", "size": 1, "content": memoryview(mirrored())}
    upload.set_trait("value", ({**file, "last_modified": datetime.datetime.now(datetime.UTC)},))
    assert chosen.photo.name == "me.jpg"
    right_way = sample_photo().pixels.shape[1] - sample_detection().landmarks[:, 0].mean()
    assert chosen.detection.landmarks[:, 0].mean() == pytest.approx(right_way, abs=4)
    assert made["Image"][0].value != before
    assert made["HTML"][0].value == "me.jpg: taken. Now run the cells below."


def test_the_notebook_fits_to_landmarks_of_the_photos_own_kind():
    """The sample's lie along its outline, "2d"; a photo of one's own has the mesh's, "3d"."""
    path = Path(__file__).parents[2] / "notebooks" / "10_your_own_photo.ipynb"
    sources = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    (source,) = (source for source in sources if "fitting.fit(" in source)
    names = "MorphableModel", "BaseBranch", "load_encoder", "fitting", "figures", "mine"
    cell = {name: MagicMock() for name in names}
    exec(source, cell)
    assert cell["fitting"].fit.call_args.kwargs["kind"] is cell["mine"].detection.kind


def test_the_upload_of_ipywidgets_7_works_too():
    chosen = ChosenPhoto()
    assert chosen.take_uploaded({"me.jpg": {"metadata": {}, "content": mirrored()}})
    assert chosen.photo.name == "me.jpg"
    assert not chosen.take_uploaded({})
    assert not chosen.take_uploaded(())
    assert chosen.photo.name == "me.jpg"


def test_the_camera_hands_its_picture_over_through_the_field(made):
    chosen = choose_photo()
    made["Textarea"][0].value = captured()
    assert chosen.photo.name == "the camera's picture"
    assert made["Textarea"][0].value == "", "ready for the next, and not kept in the notebook"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("error: the browser gave no camera (NotAllowedError); upload a picture", "gave no"),
        ("data:image/jpeg;base64,????", "empty"),
        ("data:text/plain;base64,aGVsbG8=", "the camera gave no picture"),
        ("", "the camera gave no picture"),
    ],
)
def test_a_camera_that_gives_nothing_is_one_line(answer, says):
    refused(lambda chosen: chosen.take_captured(answer), says)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (stored(Image.new("RGB", (200, 160), "grey"), "PNG"), "no face"),
        (b"I am no picture", "it holds text"),
        (HEIC, "HEIC"),
        (b"", "empty"),
        (stored(Image.new("L", (9000, 8000)), "PNG"), "72.0 megapixels, more than the limit"),
        (mirrored()[:4000], "damaged or cut short"),
    ],
)
def test_what_is_no_photo_of_a_face_is_one_line_and_the_sample_stays(data, says):
    refused(lambda chosen: chosen.take(data, "me.jpg"), says)


def refused(attempt, says: str) -> None:
    chosen = ChosenPhoto()
    before = (chosen.photo, chosen.detection, chosen.crop)
    assert attempt(chosen) is False
    assert says in chosen.message or says in chosen.message.lower()
    assert chosen.message.endswith(f". Still: {sample_photo().name}.")
    assert "\n" not in chosen.message
    assert (chosen.photo, chosen.detection, chosen.crop) == before


def test_whatever_goes_wrong_is_said(monkeypatch):
    def broken(photo):
        raise RuntimeError("out of\n memory")

    monkeypatch.setattr(photo_input, "detect", broken)
    refused(lambda chosen: chosen.take(mirrored(), "me.jpg"), "RuntimeError: out of memory")


def test_a_path_is_taken_and_a_missing_one_is_said(made, tmp_path):
    path = tmp_path / "me.jpg"
    path.write_bytes(mirrored())
    assert choose_photo(path).photo.name == "me.jpg"
    missing = choose_photo(tmp_path / "nowhere.jpg")
    assert missing.photo.name == sample_photo().name
    assert "no such file" in missing.message


def test_markup_in_a_name_stays_text(made):
    choose_photo().take(mirrored(), "<b>me</b>.jpg")
    assert made["HTML"][0].value.startswith("&lt;b&gt;me&lt;/b&gt;.jpg")


def test_on_colab_the_camera_is_asked_in_the_cell(monkeypatch, capsys):
    asked = []
    output = types.SimpleNamespace(eval_js=lambda script: asked.append(script) or captured())
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    chosen = ChosenPhoto()
    chosen.camera()
    assert chosen.photo.name == "the camera's picture"
    assert "getUserMedia" in asked[0]
    assert "taken" in capsys.readouterr().out


def test_on_colab_a_photo_of_any_size_comes_by_its_own_upload_and_nothing_stays(
    monkeypatch, capsys, made, tmp_path
):
    monkeypatch.chdir(tmp_path)

    def upload():
        Path("me.jpg").write_bytes(mirrored())  # as Colab does
        return {"me.jpg": mirrored()}

    colab = types.SimpleNamespace(files=types.SimpleNamespace(upload=upload))
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=colab))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    chosen = choose_photo()
    assert "mine.upload()" in made["HTML"][2].value
    chosen.upload()
    assert chosen.photo.name == "me.jpg"
    assert "me.jpg: taken" in capsys.readouterr().out
    colab.files.upload = dict  # cancelled
    chosen.upload()
    assert chosen.photo.name == "me.jpg"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:--tornado_settings:DeprecationWarning")
def test_the_limit_stands_beside_the_button_and_is_the_one_of_make_lab(made, capsys):
    choose_photo().upload()
    assert "Upload a photo" in capsys.readouterr().out
    limit = made["HTML"][2].value
    for words in ("100 MB", "10 MB", 'choose_photo("me.jpg")'):
        assert words in limit
    [option] = lab_options()
    app = ServerApp()
    app.parse_command_line([option])
    assert app.tornado_settings["websocket_max_message_size"] == 100 * 2**20


def test_elsewhere_the_camera_is_behind_its_button(capsys):
    ChosenPhoto().camera()
    assert "Take a picture" in capsys.readouterr().out


def test_a_file_is_made_at_the_click_and_saved_by_its_link(made, model):
    files = []

    def glb():
        files.append(mesh_file("glb", model.mean, model.faces, model.albedo_mean))
        return files[-1]

    widgets.offer_files({"face.glb": glb, "b.ply": lambda: b"ply"})
    [button, _], [link, other] = made["Button"], made["HTML"]
    assert made["shown"][0]["text/plain"] == "files: face.glb, b.ply"
    assert files == []
    assert link.value == ""
    button.click()
    data = link.value.split("base64,")[1].split('"')[0]
    assert base64.b64decode(data) == files[0]
    assert files[0][:4] == b"glTF"
    assert 'download="face.glb"' in link.value
    assert other.value == ""


def test_a_file_that_cannot_be_made_says_why(made):
    def broken():
        raise ValueError("no <face>")

    widgets.offer_files({"face.glb": broken})
    made["Button"][0].click()
    assert made["HTML"][0].value == "<code>ValueError: no &lt;face&gt;</code>"


def test_on_colab_its_own_download_starts(made, monkeypatch):
    saved = {}

    def download(path):
        saved[Path(path).name] = Path(path).read_bytes()

    files = types.SimpleNamespace(download=download)
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(files=files))
    widgets.offer_files({"face.ply": lambda: b"ply"})
    made["Button"][0].click()
    assert saved == {"face.ply": b"ply"}, made["HTML"][0].value
    assert "base64" not in made["HTML"][0].value
