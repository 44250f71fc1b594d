"""Files of the Basel Face Models' layouts with made-up content: the model that ships (CC0).

    python tests/made_up_models/made_up_bfm.py made_up
    python data_scripts/import_bfm.py made_up/01_MorphableModel.mat --expression made_up --out a.safetensors
    python data_scripts/import_bfm.py made_up/model2019_face12.h5 --out b.safetensors

They try the importer without the models themselves: what comes out has to be what went in.
"""  # noqa: E501

import json
import struct
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Float
from scipy.io import savemat

from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.files.weights import shipped_file

MAT, H5 = "01_MorphableModel.mat", "model2019_face12.h5"
NAMED = {  # some of the places that BFM 2019 names, and which of the 68 they are, from 0
    "center.nose.tip": 30,
    "right.eye.corner_outer": 36,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "center.lips.lower.outer": 57,
}


class Truth:
    """The shipped model in float64 (mm, sRGB in [0, 1]); of each basis the first so many modes.

    used: the vertices that have expressions in BFM 2009, in their order there; front: of those the
    face, as numbers in that order.
    """

    def __init__(self, identity: int, expression: int, albedo: int):
        model = MorphableModel.load(shipped_file("face_model.safetensors"), subdivision=0)
        self.mean, self.tone = model.mean.double().numpy(), model.albedo_mean.double().numpy()
        self.identity = model.identity_basis[:identity].double().numpy()
        self.expression = model.expression_basis[:expression].double().numpy()
        self.albedo = model.albedo_basis[:albedo].double().numpy()
        self.faces, self.landmarks = model.faces.numpy(), model.landmarks.numpy()
        # as Guo et al.'s, the expressions leave some vertices out, and list the rest in an order
        rng = np.random.default_rng(0)
        away = np.linalg.norm(self.mean - self.mean[self.landmarks[30]], axis=1)
        rim = np.flatnonzero((away > 95) & (model.regions["border"].numpy() > 0.5))
        around = self.faces[np.isin(self.faces, self.landmarks).any(1)]
        left_out = np.setdiff1d(rim, around)[::3]
        self.used = rng.permutation(np.setdiff1d(np.arange(len(away)), left_out))
        near = away < 125
        near[around] = True  # the triangles about the landmarks, as in the real file
        self.front = np.flatnonzero(near[self.used])


def columns(
    basis: Float[np.ndarray, "mode vertex 3"], scale: float = 1.0
) -> tuple[Float[np.ndarray, "vertex3 mode"], Float[np.ndarray, " mode"]]:
    """A basis per standard deviation as columns of length one, and their deviations."""
    flat = scale * basis.reshape(len(basis), -1).T
    deviation = np.linalg.norm(flat, axis=0)
    return flat / deviation, deviation


def parts_2009(truth: Truth) -> dict[str, np.ndarray]:
    """01_MorphableModel.mat's variables: micrometres, 0 to 255, wound inwards from 1."""
    shape, shape_deviation = columns(truth.identity, 1000)
    colour, colour_deviation = columns(truth.albedo, 255)
    return {
        "shapeMU": np.float32(1000 * truth.mean).reshape(-1, 1),
        "shapePC": np.float32(shape),
        "shapeEV": np.float32(shape_deviation[:, None]),
        "texMU": np.float32(255 * truth.tone).reshape(-1, 1),
        "texPC": np.float32(colour),
        "texEV": np.float32(colour_deviation[:, None]),
        "tl": np.float64(truth.faces[:, [0, 2, 1]] + 1),
        "segbin": np.ones((len(truth.mean), 4), np.uint8),
    }


def write_2009(folder: Path, truth: Truth) -> Path:
    """The .mat file and, in the same folder, the files of the expressions."""
    savemat(folder / MAT, parts_2009(truth))
    basis, deviation = columns(truth.expression[:, truth.used], 1000)
    with (folder / "Exp_Pca.bin").open("wb") as file:
        file.write(struct.pack("<i", len(deviation)))
        file.write(np.full(3 * len(truth.used), 500, "<f4").tobytes())  # a mean, not to be used
        file.write(basis.T.astype("<f4").tobytes())
    (folder / "std_exp.txt").write_text(" ".join(map(repr, deviation.tolist())) + "\n")
    savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (truth.used + 1)[:, None].astype(np.uint16)})
    savemat(folder / "BFM_front_idx.mat", {"idx": (truth.front + 1)[:, None].astype(float)})
    return folder / MAT


def write_statismo(
    path: Path,
    truth: Truth,
    mean_expression: Float[np.ndarray, "vertex 3"] | None = None,
    scaled: bool = False,
    landmarks: str | np.ndarray | None = None,
) -> Path:
    """A .h5 file. scaled: as statismo before 0.9, columns times the deviation. Needs h5py."""
    import h5py

    zero = np.zeros_like(truth.mean)
    reference = 1.05 * truth.mean + [0, 4, 30]  # the mesh that landmarks are on is not the mean
    parts = {
        "shape": (truth.mean, truth.identity),
        "color": (truth.tone, truth.albedo),
        "expression": (zero if mean_expression is None else mean_expression, truth.expression),
    }
    if landmarks is None:
        places = {n: reference[truth.landmarks[i]] + 0.3 for n, i in NAMED.items()}
        places |= {"center.chin.tip": reference[0], "left.lips.corner": np.full(3, 400.0)}
        landmarks = json.dumps([{"id": n, "coordinates": [*p]} for n, p in places.items()])
    with h5py.File(path, "w") as file:
        for name, (mean, basis) in parts.items():
            unit, deviation = columns(basis)
            model = file.create_group(f"{name}/model")
            model["mean"] = np.float32(mean.ravel())
            model["pcaBasis"] = np.float32(unit * deviation if scaled else unit)
            model["pcaVariance"] = np.float32(deviation**2)
            model["noiseVariance"] = np.zeros(1, np.float32)
            file[f"{name}/representer/cells"] = truth.faces.T.astype(np.int32)
            file[f"{name}/representer/points"] = reference.T.astype(np.float32)
        file["metadata/landmarks/json"] = landmarks
    return path


def main(folder: Annotated[Path, typer.Argument(help="Where the files go.")]) -> None:
    """Write made-up files of BFM 2009 and 2019, to try import_bfm.py on."""
    truth = Truth(identity=80, expression=43, albedo=25)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(write_2009(folder, truth))
        print(write_statismo(folder / H5, truth))
    except OSError as error:
        raise SystemExit(f"{folder}: cannot be written ({error.strerror or error})") from None
    except ImportError:
        print(f"{H5} is left out: it needs h5py")


if __name__ == "__main__":
    typer.run(main)
