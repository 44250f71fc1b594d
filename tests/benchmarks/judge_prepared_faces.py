"""How well preparation did on rendered photos, whose truth is known.

    python data_scripts/render_photo_folder.py --out rendered --photos 2000
    python data_scripts/prepare_cacd.py rendered/CACD2000 --out shards
    python tests/benchmarks/judge_prepared_faces.py shards rendered

Found landmarks against true ones, in pixels of the photo, in the crop's, and as a share of the
distance of the outer eye corners; the head's yaw; and by skin tone, whether faces are found and
which flags they get, so that no group of people is sorted out unseen.
"""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from facerecon_lib.cli.console import error_console, out_console
from facerecon_lib.data.shards.files import ShardsError, find_shards, read_samples
from facerecon_lib.files.errors import one_line
from facerecon_lib.photos.quality import FLAGS

GROUPS = {"1 to 4": range(1, 5), "5 to 7": range(5, 8), "8 to 10": range(8, 11)}
JAW, CORNERS = 17, (36, 45)


def landmark_errors(shards: Path, truth: dict) -> list[dict]:
    """For each face: distances in pixels of the photo (68), scale to the crop, eyes, yaw."""
    rows = []
    if not isinstance(truth, dict):
        raise ValueError("its truth.json is not that of render_photo_folder.py")
    for shard in find_shards(shards):
        for sample in read_samples(shard.address, lambda name, why: None):
            facts = json.loads(sample["json"])
            if (known := truth.get(facts["photo"])) is None:
                raise ValueError(f"{facts['photo']} of {shard.name} is no rendered photo")
            if "broken" in known:
                continue
            matrix = np.array(facts["matrix"])
            found = (np.array(facts["landmarks"]) - matrix[:, 2]) / matrix[0, 0]
            true = np.array(known["landmarks"])
            first, last = CORNERS
            row = {"px": np.linalg.norm(found - true, axis=1), "scale": matrix[0, 0]}
            row["eyes"] = np.linalg.norm(true[first] - true[last])
            row["yaw"], row["turned"] = facts["quality"]["yaw"] - known["yaw"], abs(known["yaw"])
            rows.append(row | {"tone": known["tone"], "flags": facts["quality"]["flags"]})
    return rows


def main(
    shards: Annotated[Path, typer.Argument(help="What prepare_cacd.py wrote.")],
    rendered: Annotated[Path, typer.Argument(help="What render_photo_folder.py wrote.")],
) -> None:
    """Prepared faces against the truth of their renderings."""
    try:
        truth = json.loads((rendered / "truth.json").read_text())
        rows = landmark_errors(shards, truth)
        with (shards / "report.csv").open(newline="") as file:
            statuses = {row["photo"]: row["status"] for row in csv.DictReader(file)}
        if not rows:
            raise ValueError("no rendered face is in the shards")
    except (OSError, ShardsError, ValueError, KeyError) as error:
        said = one_line(error)
        if isinstance(error, OSError):
            said = f"{error.filename}: {error.strerror}"
        elif not isinstance(error, ShardsError):
            said = f"{shards} is not made of {rendered} ({said}); name the two that belong together"
        error_console.print(f"judge_prepared_faces: {said}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None

    def add(table: Table, name: str, chosen: list[dict], points: slice) -> None:
        if not chosen:
            table.add_row(name, "0", *"----")
            return
        px = [row["px"][points].mean() for row in chosen]
        crop = [p * row["scale"] for p, row in zip(px, chosen, strict=True)]
        share = [100 * p / row["eyes"] for p, row in zip(px, chosen, strict=True)]
        cells = [f"{np.median(values):.2f}" for values in (px, crop, share)]
        table.add_row(name, str(len(chosen)), *cells, f"{np.percentile(share, 90):.1f}")

    table = Table("faces", "count", "photo px", "crop px", "% of eyes", "90th %")
    add(table, "68: all", rows, slice(None))
    chosen = {"51: without the jaw": rows}
    chosen["51, no flag"] = [row for row in rows if not row["flags"]]
    for low, high in ((0, 15), (15, 30), (30, 90)):
        turned = [row for row in rows if low <= row["turned"] < high]
        chosen[f"51, turned {low} to {high} deg"] = turned
    for group, tones in GROUPS.items():
        chosen[f"51, tones {group}"] = [row for row in rows if row["tone"] in tones]
    for name, some in chosen.items():
        add(table, name, some, slice(JAW, None))
    out_console.print(table)
    off = np.array([row["yaw"] for row in rows])
    out_console.print(f"yaw: median {np.median(abs(off)):.1f} degrees off, mean {off.mean():+.1f}")
    table = Table("tones", *GROUPS)
    shares: dict[str, list[str]] = {name: [] for name in ("photos", "found %", *FLAGS)}
    for tones in GROUPS.values():
        names = [n for n, known in truth.items() if known.get("tone") in tones]
        found = sum(statuses.get(name) == "face" for name in names)
        counts = Counter(f for r in rows if r["tone"] in tones for f in r["flags"])
        shares["photos"].append(str(len(names)))
        shares["found %"].append(f"{100 * found / max(len(names), 1):.1f}")
        for flag in FLAGS:
            shares[flag].append(f"{100 * counts[flag] / max(found, 1):.1f}")
    for name, cells in shares.items():
        table.add_row(f"{name} %" if name in FLAGS else name, *cells)
    out_console.print(table)


if __name__ == "__main__":
    typer.run(main)
