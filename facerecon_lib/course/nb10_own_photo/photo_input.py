"""The reader's own photo in a notebook: a file, an upload or the camera; the bundled one till then.

    mine = choose_photo()                 # shows what to click; choose_photo("me.jpg") takes a file
    mine.photo, mine.detection, mine.crop
    mine.camera(), mine.upload()          # on Colab, where the buttons cannot

An unusable photo is answered by one line, and the one before stays. Pictures go from the
browser to the memory of the kernel and no further: nothing is written to the disk or sent on.

Notebook 10.
"""

import base64
import binascii
import html
import sys
import uuid
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from ...face.batch import FaceBatch
from ...files.errors import one_line
from ...photos.crop import Crop, align
from ...photos.detection import Detection, detect, sample_detection, sample_photo
from ...photos.reading import Photo, load_image
from ...pictures.faces import to_uint8
from ..widgets import captioned, png_of, show_widget

PRIVACY = (
    "Your picture goes to the memory of the machine that runs this notebook (on Colab that is "
    "Google's) and no further: nothing is saved, and nothing is sent on."
)
LIMIT = (
    "Up to 100 MB by <code>make lab</code>. A server started otherwise drops the connection at 10 "
    'MB: there, put the photo beside the notebook and run <code>choose_photo("me.jpg")</code>.'
)
COLAB_LIMIT = "Colab's button may end at 1 MB: run <code>mine.upload()</code> in a cell of its own."
PREVIEW = 224  # px

# Resolves to the picture as a data URL; rejects with a sentence.
_CAPTURE = """async function capture(place) {
  if (!navigator.mediaDevices) {
    throw "the browser gives no camera to a page from http://; upload a picture instead";
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {width: 1280, facingMode: "user"}});
  } catch (error) {
    throw "the browser gave no camera (" + error.name + "); upload a picture instead";
  }
  const video = document.createElement("video"), button = document.createElement("button");
  video.style.cssText = "display: block; width: 400px; transform: scaleX(-1)";  // as in a mirror
  video.muted = video.playsInline = true;
  video.srcObject = stream;
  button.textContent = "Take the picture";
  button.className = "jupyter-button mod-primary";
  place.replaceChildren(video, button);
  await video.play();
  await new Promise(clicked => { button.onclick = clicked; });
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  stream.getTracks().forEach(track => track.stop());
  place.replaceChildren();
  return canvas.toDataURL("image/jpeg", 0.95);
}"""

# A text field is the way back to Python that ipywidgets has without an extension of its own.
_TO_FIELD = """(() => {
  %s
  const field = document.querySelector(".%s textarea");
  const answer = text => {
    field.value = text;
    for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, {bubbles: true}));
  };
  capture(document.querySelector(".%s")).then(answer, error => answer("error: " + error));
})()"""

_ON_COLAB = """(async () => {
  %s
  const place = document.createElement("div");
  document.body.append(place);
  google.colab.output.setIframeHeight(420, true);
  return await capture(place).catch(error => "error: " + error);
})()"""


class ChosenPhoto:
    """A photo with a face, and how to choose another; `choose_photo` makes it.

    photo, detection, crop: of the photo that was chosen last. message: what became of it.
    """

    photo: Photo
    detection: Detection
    crop: Crop

    def __init__(self) -> None:
        self._say = lambda: None
        message = "This is the photo that comes with the course. Yours may take its place."
        self._set(sample_photo(), sample_detection(), message)

    def _set(self, photo: Photo, detection: Detection, message: str) -> None:
        crop = align(photo.pixels, detection.landmarks)
        self.photo, self.detection, self.crop, self.message = photo, detection, crop, message
        self._say()

    @property
    def batch(self) -> FaceBatch:
        """The crop as networks and fits take it."""
        crop, kind = self.crop, self.detection.kind
        return FaceBatch(crop.image, crop.valid, crop.landmarks, kind, [self.photo.name])

    def take(self, source: str | Path | bytes, name: str | None = None) -> bool:
        """Look for a face in a file, or in the bytes of one; True where the photo is now this one.

        Anything else leaves the photo as it was, and `message` says why in one line.
        """
        try:
            photo = load_image(source, name)
            detection = detect(photo)
            count = detection.faces_found
            which = f"; the largest of {count} faces" if count > 1 else ""
            which += f"; {photo.note}" if photo.note else ""
            self._set(photo, detection, f"{photo.name}: taken{which}. Now run the cells below.")
        except Exception as error:  # in a widget's callback a traceback would go unseen
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            return self._refuse(kind + one_line(error))
        return True

    def _refuse(self, reason: str) -> bool:
        self.message = f"{reason}. Still: {self.photo.name}."
        self._say()
        return False

    def take_captured(self, answer: str) -> bool:
        """The same of what the browser's camera gave: a data URL, or "error: " and a sentence."""
        if answer.startswith("error: "):
            return self._refuse(answer[7:300])
        if not answer.startswith("data:image/"):
            return self._refuse("the camera gave no picture")
        try:
            picture = base64.b64decode(answer.partition(",")[2], validate=True)
        except binascii.Error:
            picture = b""
        return self.take(picture, "the camera's picture")

    def take_uploaded(self, value: tuple | dict) -> bool:
        """The same of the `value` of an ipywidgets.FileUpload, as version 7 or 8 has it."""
        files = list(value.items()) if isinstance(value, dict) else [(f["name"], f) for f in value]
        return bool(files) and self.take(bytes(files[-1][1]["content"]), files[-1][0])

    def camera(self) -> None:
        """Take a picture with the camera on Colab; elsewhere the button beside the upload does."""
        if not on_colab():
            print("Use the button “Take a picture” above.")
            return
        from google.colab.output import eval_js

        self.take_captured(eval_js(_ON_COLAB % _CAPTURE))
        print(self.message)

    def upload(self) -> None:
        """Choose a file of any size on Colab; elsewhere the button does."""
        if not on_colab():
            print('Use the button “Upload a photo” above, or choose_photo("me.jpg").')
            return
        from google.colab import files

        with TemporaryDirectory() as folder, chdir(folder):  # where Colab keeps a copy
            uploaded = files.upload()
        if uploaded:
            name, data = list(uploaded.items())[-1]
            self.take(data, name)
        print(self.message)

    def show(self) -> None:
        """An upload, a camera, the crop as it is now, and what became of the last picture."""
        import ipywidgets as w
        from IPython.display import Javascript, display

        anchor, absent = f"facerecon-{uuid.uuid4().hex[:8]}", {"display": "none"}
        upload = w.FileUpload(accept="image/*", multiple=False, description="Upload a photo")
        upload.layout.width = "auto"  # its icon leaves the words no room in a button's usual width
        camera = w.Button(description="Take a picture", icon="camera")
        camera.layout.display = "none" if on_colab() else None
        field, stage, scripts = w.Textarea(layout=absent), w.Box(), w.Output()
        hidden = w.Box([field], layout=absent)
        hidden.add_class(f"{anchor}-field")
        stage.add_class(anchor)
        image = w.Image(format="png", width=PREVIEW, height=PREVIEW)
        text, privacy = w.HTML(), w.HTML(f"<small>{PRIVACY}</small>")
        limit = w.HTML(f"<small>{COLAB_LIMIT if on_colab() else LIMIT}</small>")

        def say() -> None:
            image.value = png_of(to_uint8(self.crop.image[0]))
            text.value = html.escape(self.message)

        def film(_button) -> None:
            scripts.clear_output()
            with scripts:
                display(Javascript(_TO_FIELD % (_CAPTURE, f"{anchor}-field", anchor)))

        def captured(change) -> None:
            if change["new"]:
                self.take_captured(change["new"])
                field.value = ""

        upload.observe(lambda change: self.take_uploaded(change["new"]), names="value")
        camera.on_click(film)
        field.observe(captured, names="value")
        self._say = say
        say()
        box = w.VBox(
            [w.HBox([upload, camera, limit]), stage, image, text, privacy, hidden, scripts]
        )
        still = captioned(to_uint8(self.crop.image[0]), "Run this cell to choose your own photo")
        show_widget(box, f"photo: {self.photo.name}", still)


def choose_photo(source: str | Path | None = None) -> ChosenPhoto:
    """Show what to choose a photo with. It starts at the file `source`, or at the bundled photo."""
    chosen = ChosenPhoto()
    if source is not None:
        chosen.take(source)
    chosen.show()
    return chosen


def on_colab() -> bool:
    return "google.colab" in sys.modules
