"""Puts photos of one person under one name, as far as their faces tell, for --split person.

    python data_scripts/group_people.py shards --out grouped

Photos whose recognition features (dlib's, 128 numbers) lie within the threshold are of one person,
and so are those that join such a pair; photos that had one person already stay together. A person's
name becomes the smallest key of the photos. Everything else in the shards stays, byte for byte.
Too large a threshold joins chains of unlike people: look at the size of the largest group.

Notebook 06, section 2.3.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from facerecon_lib.data.shards.files import (
    Shard,
    ShardsError,
    find_shards,
    read_samples,
    write_index,
)
from facerecon_lib.data.shards.reader import PhotoShards
from facerecon_lib.data.shards.samples import tar_bytes, write_shard
from facerecon_lib.files.errors import FacereconError
from facerecon_lib.files.streams import forgive_streams
from facerecon_lib.networks.face_networks import load_network
from facerecon_lib.networks.recognition import face_features

BATCH, BLOCK = 64, 2048  # photos at a time: through the network, and against all others


def main(
    source: Annotated[Path, typer.Argument(help="A folder of shards.")],
    out: Annotated[Path, typer.Option(help="A new folder for the shards with people.")],
    threshold: Annotated[float, typer.Option(help="Largest distance within a person.")] = 0.45,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Name the people of shards by their faces."""
    partial = out.with_name(f".{out.name}.part")
    try:
        if out.exists():
            raise ShardsError(f"{out}: is there already; choose a new folder")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was stopped
        partial.mkdir(parents=True)
        keys, people, features = look(source, device)
        names = dict(zip(keys, person_names(keys, people, features, threshold), strict=True))
        for shard in find_shards(source):
            write_shard(partial / shard.name, map(tar_bytes, renamed(shard, names)))
        write_index(partial)
        os.rename(partial, out)
    except (FacereconError, OSError) as error:
        sys.exit(f"group_people: {error}")
    sizes = Counter(names.values())
    (name, most), *_ = sizes.most_common(1)
    print(f"{out}: {len(keys):,} photos of {len(sizes):,} people, at most {most} of one ({name})")


@torch.no_grad()
def look(source: Path, device: str) -> tuple[list[str], list[str], Float[Tensor, "photo 128"]]:
    """Each photo's key, the person it had, and the features of its face."""
    network, keys, people, features = load_network("dlib", device=device), [], [], []
    for batch in PhotoShards(source, BATCH, complete=True, device=device):
        keys += [name.rpartition("/")[2] for name in batch.names]
        people += batch.person
        features.append(face_features(network, batch.image, batch.landmarks, batch.valid).cpu())
    return keys, people, torch.cat(features)


def person_names(
    keys: Sequence[str],
    people: Sequence[str],
    features: Float[Tensor, "photo feature"],
    threshold: float,
) -> list[str]:
    """Of each photo the smallest key of its group."""
    _, first, person = np.unique(people, return_index=True, return_inverse=True)
    pairs = [torch.stack([torch.arange(len(keys)), torch.from_numpy(first[person])])]
    for start in range(0, len(keys), BLOCK):
        near = torch.cdist(features[start : start + BLOCK], features[start:]) < threshold
        pairs.append(near.nonzero().T + start)
    rows, columns = torch.cat(pairs, 1).numpy()
    ones, size = np.ones(len(rows), bool), (len(keys),) * 2
    _, groups = connected_components(coo_array((ones, (rows, columns)), size), directed=False)
    smallest: dict[int, str] = {}
    for key, group in zip(keys, groups.tolist(), strict=True):
        smallest[group] = min(key, smallest.get(group, key))
    return [smallest[group] for group in groups.tolist()]


def renamed(shard: Shard, names: dict[str, str]) -> Iterator[dict]:
    """The samples of a shard whose photos have a name, with it."""
    for sample in read_samples(shard.address, lambda name, reason: None):
        if (key := sample["__key__"]) in names:
            facts = json.loads(sample["json"]) | {"person": names[key]}
            yield {**sample, "json": json.dumps(facts).encode()}


if __name__ == "__main__":
    forgive_streams()
    typer.run(main)
