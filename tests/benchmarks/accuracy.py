"""How right a fit is from true landmarks: in mm on rendered faces; on photos, in landmarks.

From pixels, as a user has it: `people.py`.

    python tests/benchmarks/accuracy.py                        # 50 rendered faces a mesh density
    python tests/benchmarks/accuracy.py --photos FOLDER --out FOLDER
    python tests/benchmarks/accuracy.py --recognition dlib     # with Eq. 6 in the fit

Rendered faces: random identity, expression, skin, pose and light; half a grey level of noise; the
landmarks of the mesh moved by half a pixel at random, about what the detector scatters by. Faces of
either density are fitted with the mesh that they were rendered from.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from facerecon_lib.face.colour import skin_tone_group
from facerecon_lib.face.lighting import ambient_lighting
from facerecon_lib.face.measures import albedo_error, landmark_error, vertex_error_mm
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.fitting.fit import fit
from facerecon_lib.networks.face_networks import FaceNetwork, load_network
from facerecon_lib.rendering.synthesis import synthesise

console = Console(width=130)


def random_face(model: MorphableModel, count: int, generator: torch.Generator):
    """Coefficients of plausible faces, poses and lights."""

    def normal(*sds):
        return torch.randn(count, len(sds), generator=generator) * torch.tensor(sds)

    c = model.neutral(count)
    c.identity, c.expression, c.albedo = model.random(count, generator)
    device = c.identity.device
    c.rotation = normal(0.15, 0.35, 0.08).to(device)
    c.translation = c.translation + normal(5.0, 5.0, 20.0).to(device)
    level = 0.7 + 0.3 * torch.rand(count, 1, 1, generator=generator)
    light = ambient_lighting(count) * level
    light[:, 1:4] += (normal(0.25, 0.2, 0.3) + torch.tensor([0.1, 0.25, 0.0]))[..., None]
    light = light * (1 + 0.04 * torch.randn(count, 1, 3, generator=generator))
    c.lighting = light.to(device)
    return c


def rendered_faces(
    subdivision: int, count: int, batch: int, device: str, seed: int, network: FaceNetwork | None
) -> dict:
    model = MorphableModel.load(subdivision=subdivision).to(device)
    coarse = MorphableModel.load(subdivision=0).to(device)
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list] = {}

    def add(name: str, values) -> None:
        rows.setdefault(name, []).append(np.asarray(torch.as_tensor(values).cpu()))

    skin = model.regions["skin"] > 0.5
    for start in range(0, count, batch):
        n = min(batch, count - start)
        truth = random_face(model, n, generator)
        with torch.no_grad():
            face = synthesise(model, truth)
            image, mask = face.render(background=0.5)
            noise = torch.randn(image.shape, generator=generator).to(image) * 0.5 / 255
            image = (image + noise).clamp(0, 1)
            jitter = 0.5 * torch.randn(n, 68, 2, generator=generator).to(image)
            points = face.landmarks("2d") + jitter
        inputs = image, torch.ones_like(mask), points
        result = fit(model, *inputs, kind="2d", coarse_model=coarse, recognition=network)
        with torch.no_grad():
            fitted = synthesise(model, result.coefficients)
            mean = model.mean.expand(n, -1, -1)
            for name, vertices in (("fit", fitted.vertices), ("mean", mean)):
                for how in ("similarity", "rigid"):
                    error = vertex_error_mm(vertices, face.vertices, align=how)
                    add(f"{name} {how}", error.median(1).values)
            true = face.albedo.clamp(0, 1)
            error = albedo_error(fitted.albedo.clamp(0, 1), true, skin.float())
            add("rgb", error["rgb"])
            add("ita", error["ita"])
            add("tone", skin_tone_group(true[:, skin].mean(1)))
        add("converged", torch.tensor(result.converged))
        console.print(f"  {start + n} of {count} faces", end="\r")
    return {name: np.concatenate(values) for name, values in rows.items()}


def photos(folder: Path, out: Path | None, network: FaceNetwork | None) -> None:
    from PIL import Image

    from facerecon_lib.fitting.pose_start import start_from_landmarks
    from facerecon_lib.photos.reading import load_image
    from facerecon_lib.pictures.faces import overlay_on_photo
    from facerecon_lib.pictures.fit_sheet import fit_sheet
    from facerecon_lib.reconstruction.reconstruct import fit_face

    model, coarse = MorphableModel.load(), MorphableModel.load(subdivision=0)
    columns = ("photo", "all 68", "inner 51", "mean face, 68", "converged")
    table = Table(*columns, title="photos: landmark error, share of the outer eye distance")
    rows = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".png")):
        done = fit_face(load_image(path), model, coarse, recognition=network)
        target = done.crop.landmarks
        points = done.face.landmarks(done.detection.kind)
        start = synthesise(model, start_from_landmarks(model, target))
        errors = (
            landmark_error(points, target),
            landmark_error(points, target, points="inner"),
            landmark_error(start.landmarks(done.detection.kind), target),
        )
        rows.append([float(error) for error in errors])
        table.add_row(path.name, *(f"{v:.1%}" for v in rows[-1]), str(done.fitted.converged[0]))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            overlay = overlay_on_photo(done.photo.pixels, done.face, done.crop.matrix)
            Image.fromarray(overlay).save(out / f"{path.stem}_overlay.png")
            c = done.fitted.coefficients
            page = fit_sheet(done.crop, done.face, c, done.detection.kind, path.name)
            page.save(out / f"{path.stem}_figure.png")
    table.add_row("median", *(f"{v:.1%}" for v in np.median(rows, 0)), "", style="bold")
    console.print(table)


def main(
    count: Annotated[int, typer.Option(help="Rendered faces a density; 0 for none.")] = 50,
    batch: int = 10,
    device: str = "cpu",
    seed: int = 5,
    photo_folder: Annotated[Path | None, typer.Option("--photos", help="Photos to fit.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the photos' figures go.")] = None,
    recognition: Annotated[str, typer.Option(help="none, dlib or facenet: Eq. 6.")] = "none",
) -> None:
    network = None if recognition == "none" else load_network(recognition, device=device)
    if count:
        columns = ("mesh", "fit mm", "mean face mm", "ratio", "fit rigid mm", "mean rigid mm")
        title = f"{count} rendered faces per density: median over faces, {device}"
        table = Table(*columns, "converged", title=title)
        columns = ("mesh", "tone", "faces", "RGB error", "ITA error, degrees")
        tones = Table(*columns, title="unlit albedo of the skin, by the Monk tone of the truth")
        for subdivision, name in enumerate(("native", "x1")):
            r = rendered_faces(subdivision, count, batch, device, seed, network)
            fitted, mean, fitted_rigid, mean_rigid = (
                np.median(r[f"{face} {how}"])
                for how in ("similarity", "rigid")
                for face in ("fit", "mean")
            )
            mm = (fitted, mean, fitted / mean, fitted_rigid, mean_rigid)
            table.add_row(name, *(f"{v:.2f}" for v in mm), f"{r['converged'].mean():.0%}")
            for low in (1, 3, 5, 7, 9):
                inside = (r["tone"] == low) | (r["tone"] == low + 1)
                if inside.any():
                    rgb, ita = np.median(r["rgb"][inside]), np.median(np.abs(r["ita"][inside]))
                    cells = (str(inside.sum()), f"{rgb:.3f}", f"{ita:.1f}")
                    tones.add_row(name, f"{low} to {low + 1}", *cells)
        console.print(table)
        console.print(tones)
    if photo_folder is not None:
        photos(photo_folder, out, network)


if __name__ == "__main__":
    typer.run(main)
