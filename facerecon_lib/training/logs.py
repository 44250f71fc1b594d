"""What a training run writes down: log.jsonl, TensorBoard, a progress bar.

    OUT/log.jsonl        a line per logged step: {"kind": "train" or "validation", "step": ...}
    OUT/tensorboard/     the same numbers, and pictures, a row per face

A resumed run cuts both back to its checkpoint, so that no step is there twice. Serves notebooks 06
and 09.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..files.atomic import write_whole

PLAIN_LINE_SECONDS = 15.0  # between two lines where there is no terminal to draw a bar on
SHOWN = 4  # faces of a picture


class RunLog:
    """The log of one run, of the process that writes it; with write=False it does nothing.

    step: of the checkpoint that the run resumes, 0 for a new run. console: for progress, or None.
    """

    def __init__(
        self, out: Path, step: int, steps: int, write: bool = True, console: Console | None = None
    ):
        self.write, self.console, self.records = write, console if write else None, []
        self._clock, self._counted, self._line = time.perf_counter(), step, 0.0
        self._steps = steps
        note = TextColumn("{task.fields[note]}", markup=False)
        columns = (BarColumn(), MofNCompleteColumn(), note, TimeRemainingColumn())
        hidden = self.console is None or not self.console.is_terminal
        self._bar = Progress("training", *columns, console=console, transient=True, disable=hidden)
        self._task = self._bar.add_task("", total=steps, completed=step, note="")
        if not write:
            return
        from torch.utils.tensorboard import SummaryWriter

        path = out / "log.jsonl"
        self.records = [record for record in read_log(path) if record["step"] <= step and step]
        with write_whole(path) as partial:
            partial.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        self._file = path.open("a", buffering=1)
        purge = step + 1 if step else 0
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=purge)
        self._bar.start()

    def close(self) -> None:
        """Everything to the disk, the bar off the screen."""
        with suppress(OSError):
            self._bar.stop()
        if self.write:
            self._file.close()
            self._board.close()

    def flush(self) -> None:
        """The log so far to the disk."""
        if self.write:
            self._board.flush()

    @contextmanager
    def pause(self):
        """Time that does not count in photos/s: validation, checkpoints."""
        began = time.perf_counter()
        yield
        self._clock += time.perf_counter() - began

    def advance(self, step: int) -> None:
        """Move the bar to `step` steps done."""
        self._bar.update(self._task, completed=step)

    def train(
        self, step: int, batch: int, numbers: Mapping[str, float], terms: Mapping, weights: Mapping
    ) -> None:
        """Log a step: `numbers` (loss, rate, gradient norm), the terms, and photos/s since last."""
        if not self.write:
            return
        now = time.perf_counter()
        speed = (step - self._counted) * batch / max(now - self._clock, 1e-9)
        self._clock, self._counted = now, step
        loss = numbers["loss"]
        shares = {name: weights.get(name, 0.0) * value / loss for name, value in terms.items()}
        record = {"kind": "train", "step": step, "faces": step * batch, **numbers}
        self._add({**record, "photos_per_s": round(speed, 2), "terms": terms, "shares": shares})
        note = f"loss {loss:.4g}, {speed:.0f} photos/s"
        self._bar.update(self._task, completed=step, note=note)
        if self._bar.disable and (now - self._line > PLAIN_LINE_SECONDS or step == self._steps):
            self._line = now
            say(self.console, f"step {step} of {self._steps}: {note}")

    def validation(self, step: int, numbers: Mapping, summary: str) -> None:
        """Log the numbers of `validate`; the summary is for people."""
        if self.write:
            self._add({"kind": "validation", "step": step, **numbers})
            say(self.console, f"step {step}: {summary}")

    def pictures(self, tag: str, step: int, *parts: Float[Tensor, "3 rows columns"] | None) -> None:
        """Add a picture to TensorBoard, the parts one below the other, if there are any."""
        if rows := [part for part in parts if part is not None]:
            self._board.add_image(tag, torch.cat(rows, 1), step)

    def _add(self, record: dict) -> None:
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")
        for name, value in _flat(record, f"{record['kind']}/"):
            self._board.add_scalar(name, value, record["step"])


def say(console: Console | None, text: str) -> None:
    """A line for people, above a bar if there is one; a terminal that is gone stops no run."""
    if console is not None:
        with suppress(OSError):
            console.print(text, markup=False, soft_wrap=True)


def tiled(columns: Sequence[Float[Tensor, "b 3 h w"]]) -> Float[Tensor, "3 rows columns"]:
    """One picture of several columns, the first faces of each in rows."""
    faces = torch.stack([x[:SHOWN].detach().float().cpu() for x in columns], 1).clamp(0, 1)
    return faces.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


def read_log(path: Path) -> list[dict]:
    """The records of a log.jsonl, without a last line that was cut off."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _flat(record: Mapping, prefix: str):
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value


def overlaid(
    photo: Float[Tensor, "batch 3 size size"],
    image: Float[Tensor, "batch 3 rows columns"] | None,
    mask: Float[Tensor, "batch 1 rows columns"] | None,
) -> Float[Tensor, "3 height width"] | None:
    """The first photos, renderings, and renderings on the photos; None where none was made."""
    if image is None:
        return None
    photo, image, mask = (x[:SHOWN] for x in (photo, image, mask))
    photo = F.interpolate(photo, image.shape[2:], mode="area")
    return tiled([photo, image * mask, torch.lerp(photo, image, mask)])
