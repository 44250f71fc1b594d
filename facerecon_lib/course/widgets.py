"""Sliders around the renderer, and small animations, for notebooks.

    explore(draw, yaw=(-60, 60, 0), look=["lit", "unlit"])     # draw(yaw=..., look=...) -> picture
    animation(frames, seconds=3)                                # a list of uint8 images
    offer_files({"face.glb": lambda: glb})                      # buttons that hand out files

A picture is a uint8 array (H, W, 3) or a matplotlib Figure. A stored notebook, and a viewer without
a kernel, show the first state as a picture, with a line that says what can be moved.

Every notebook.
"""

import base64
import html
import io
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from .drawing.style import font

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

Control = tuple | list | bool


def explore(
    draw: Callable[..., np.ndarray | Figure],
    *,
    labels: Mapping[str, str] | None = None,
    width: int | None = None,
    **controls: Control,
) -> None:
    """Show draw(**values) with a control for each keyword; it is drawn anew while a slider moves.

    controls: (least, most, start) or (least, most, start, step) makes a slider, of whole numbers
    where all are int; a list makes a menu that starts at its first entry; a bool a tick box.
    labels: what to write beside a control instead of its name. width: of the picture as shown, px.
    What draw raises or prints while a control moves appears under the picture.
    Raises ValueError for a control of another form.
    """
    import ipywidgets

    titles = {name: (labels or {}).get(name, name) for name in controls}
    label_px = max([130, *(8 * len(title) for title in titles.values())])  # all in line
    moving = {name: _control(name, spec, titles[name], label_px) for name, spec in controls.items()}

    def current() -> bytes:
        return png_of(draw(**{name: control.value for name, control in moving.items()}))

    first = current()
    pixels = np.asarray(Image.open(io.BytesIO(first)).convert("RGB"))
    layout = {"width": f"{width or pixels.shape[1]}px"}
    image = ipywidgets.Image(value=first, format="png", layout=layout)
    trouble = ipywidgets.HTML()

    def redraw(_change: object) -> None:
        try:
            image.value, trouble.value = current(), ""
        except Exception as error:  # a traceback would go to a log that no one sees
            trouble.value = f"<code>{type(error).__name__}: {html.escape(str(error))}</code>"

    for control in moving.values():
        control.observe(redraw, names="value")
    box = ipywidgets.VBox([*moving.values(), image, trouble])
    names = ", ".join(titles.values())
    show_widget(box, f"sliders: {names}", captioned(pixels, f"Run this cell to move: {names}"))


def show_widget(box, text: str, still: UInt8[np.ndarray, "height width 3"]) -> None:
    """Display a widget, with words and a picture for viewers that have no kernel."""
    from IPython.display import display

    png = base64.b64encode(png_of(still)).decode()
    display({**box._repr_mimebundle_(), "text/plain": text, "image/png": png}, raw=True)


def animation(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]], seconds: float = 3.0, colours: int = 128
) -> None:
    """Show frames one after another, for ever: an animated PNG, which every viewer shows.

    Raises ValueError without frames, or where their sizes differ.
    """
    from IPython.display import display

    png = animated_png(frames, seconds, colours)
    text = f"animation: {len(frames)} frames"
    display({"text/plain": text, "image/png": base64.b64encode(png).decode()}, raw=True)


def offer_files(files: Mapping[str, Callable[[], bytes]]) -> None:
    """A button per file: a click makes it, and hands it to the browser to save.

    files: by name, what gives the file's bytes. Nothing is made, or stored in the notebook, before
    a click. In Jupyter a link appears, on Colab its own download starts; what a file's maker raises
    appears beside its button.
    """
    import ipywidgets

    rows = []
    for name, make in files.items():
        button = ipywidgets.Button(description=name, icon="download")
        link = ipywidgets.HTML()
        button.on_click(partial(_hand_out, name, make, link))
        rows.append(ipywidgets.HBox([button, link]))
    names = ", ".join(files)
    still = captioned(_drawn_buttons(list(files)), f"Run this cell to save {names}")
    show_widget(ipywidgets.VBox(rows), f"files: {names}", still)


def _drawn_buttons(names: Sequence[str]) -> UInt8[np.ndarray, "height width 3"]:
    """How the buttons look, where no kernel runs."""
    image = Image.new("RGB", (420, 44 * len(names) + 12), "white")
    draw = ImageDraw.Draw(image)
    for i, name in enumerate(names):
        top = 44 * i + 12
        draw.rounded_rectangle((12, top, 212, top + 32), radius=4, fill="#e8ebf0")
        draw.text((112, top + 16), f"save {name}", "#2b2f36", font(14), anchor="mm")
    return np.asarray(image)


def _hand_out(name: str, make: Callable[[], bytes], link, _button) -> None:
    try:
        data = make()
        size = f"{len(data) / 1e6:.1f} MB"
        if "google.colab" in sys.modules:
            from google.colab import files as colab

            path = Path(tempfile.mkdtemp(prefix="facerecon-")) / name
            path.write_bytes(data)
            colab.download(str(path))
            link.value = size
        else:
            address = f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
            name = html.escape(name)
            link.value = f'<a href="{address}" download="{name}">save {name} ({size})</a>'
    except Exception as error:  # a traceback would go to a log that no one sees
        link.value = f"<code>{type(error).__name__}: {html.escape(str(error))}</code>"


def animated_png(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]], seconds: float = 3.0, colours: int = 128
) -> bytes:
    """The frames as one animated PNG in a palette that they share."""
    if not frames or len({f.shape for f in frames}) != 1:
        shapes = sorted({f.shape for f in frames})
        raise ValueError(f"frames: expected one or more of one size, got {shapes or 'none'}")
    sample = Image.fromarray(np.concatenate(frames[:: max(len(frames) // 4, 1)]))
    palette = sample.quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    none = Image.Dither.NONE  # dithering would flicker, and doubles the size
    first, *rest = (Image.fromarray(f).quantize(palette=palette, dither=none) for f in frames)
    out, form = io.BytesIO(), dict(save_all=True, append_images=rest, loop=0, optimize=True)
    first.save(out, "PNG", duration=round(1000 * seconds / len(frames)), **form)
    return out.getvalue()


def _control(name: str, spec: Control, label: str, label_px: int):
    import ipywidgets

    style = dict(description=label, style={"description_width": f"{label_px}px"})
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **style)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, value=spec[0], **style)
    if isinstance(spec, tuple) and len(spec) in (3, 4):
        low, high, start, *step = spec
        if low <= start <= high and low < high:
            whole = all(isinstance(v, int) for v in spec)
            kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
            [step] = step or [1 if whole else (high - low) / 100]
            style["layout"] = {"width": f"{390 + label_px}px"}
            return kind(value=start, min=low, max=high, step=step, **style)
    raise ValueError(
        f"{name}: expected (least, most, start), a list of choices, or True/False, got {spec!r}"
    )


def png_of(picture: np.ndarray | Figure) -> bytes:
    """A picture as PNG."""
    out = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(out, format="png", dpi=picture.get_dpi())
    else:  # the least compression: a redraw is to be fast, and the picture goes no further
        Image.fromarray(picture).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def captioned(picture: np.ndarray, note: str) -> np.ndarray:
    """The picture over a grey strip with a line of text."""
    height, width = picture.shape[:2]
    lines = [""]
    for word in note.split():
        line = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font(14).getlength(line) > width - 16:
            lines.append(word)
        else:
            lines[-1] = line
    sheet = Image.new("RGB", (width, height + 20 * len(lines) + 10), (232, 236, 241))
    sheet.paste(Image.fromarray(picture), (0, 0))
    for i, text in enumerate(lines):
        place = (8, height + 5 + 20 * i)
        ImageDraw.Draw(sheet).text(place, text, fill=(60, 70, 85), font=font(14))
    return np.asarray(sheet)
