"""Wrinkles from pixels: base, the report's U-Net, and each pass of notebook 13.

    python tests/benchmarks/wrinkles.py --faces 100

Rendered photos of 512 pixels, seed 1000, held-out lights, with wrinkles; detectors find the faces.
"""

import argparse

import torch

from facerecon_lib.augmented.branch import AugmentedBranch, BaseBranch
from facerecon_lib.beyond.depth_network import load_depth_unet
from facerecon_lib.beyond.wrinkles import WrinkleBranch
from facerecon_lib.course.nb13_wrinkles.measured import found_faces, measured, table
from facerecon_lib.data.rendered.faces import PHOTO_MARGIN, PHOTO_SIZE, RenderedFaces
from facerecon_lib.face.morphable_model import MorphableModel
from facerecon_lib.networks.encoder import load_encoder
from facerecon_lib.networks.unet import load_unet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--network", default=None, help="else the one that ships")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MorphableModel.load()
    base = BaseBranch(load_encoder(model=model), model)
    branch = WrinkleBranch(load_depth_unet(options.network, model), base, "finer")
    view = dict(size=PHOTO_SIZE, margin=PHOTO_MARGIN)
    faces = RenderedFaces(model, seed=1000, family="held-out", wrinkles=True, **view)
    found = found_faces(faces, range(options.faces))
    rows = list(measured(branch, AugmentedBranch(load_unet(model=model), base), found))
    print(table(rows))
    lined = [row for row in rows if row["base"]["found"] == 0]
    print(f"those with relief of {0.02} mm or more that the bases lack:")
    print(table(lined))


if __name__ == "__main__":
    main()
