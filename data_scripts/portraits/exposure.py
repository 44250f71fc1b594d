"""How bright and how tinted each portrait is, told apart from its skin by people seen twice.

    gains = exposure(cues, skin, people)                 # (N, 3): skin / gains is without it

Two photos of one person differ by exposure and lamp alone. So ridge regression from the difference
of what hints at the exposure (background, whites of the eyes, teeth, shirt) to the difference of
the logarithm of the skin's colour sees no skin at all, and holds for people seen once too.
Notebooks 01 and 03.
"""

from collections import defaultdict
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon_lib.files.errors import FacereconError

from .observe import from_log_opponents, log_opponents

RIDGE, LEAST_PAIRS, FOLDS = 30.0, 100, 5


class PortraitsError(FacereconError):
    """Portraits that teach too little; the message says why and what to do."""


def same_person(people: list[str]) -> dict[str, list[int]]:
    """The numbers of each person's portraits."""
    groups = defaultdict(list)
    for i, person in enumerate(people):
        groups[person].append(i)
    return groups


def pairs_of(people: list[str]) -> list[tuple[int, int]]:
    """The pairs of portraits of one person. Raises PortraitsError for too few."""
    pairs = [pair for group in same_person(people).values() for pair in combinations(group, 2)]
    if len(pairs) < LEAST_PAIRS:
        raise PortraitsError(
            f"{len(pairs)} pairs of photos of one person; {LEAST_PAIRS} or more tell exposure from "
            "skin. Are people named in the shards? data_scripts/group_people.py finds them"
        )
    return pairs


def exposure(
    cues: Float[Tensor, "photo cue"], skin: Float[Tensor, "photo 3"], people: list[str]
) -> tuple[Float[Tensor, "photo 3"], str]:
    """Gains about one by which each photo is brighter than the mean one, and how well, in words.

    skin: the mean colour of each face, sRGB. Raises PortraitsError for too few pairs.
    """
    pairs = pairs_of(people)
    cues = ((cues - cues.mean(0)) / cues.std(0).clamp(min=1e-6)).double()
    colour = log_opponents(skin).double()
    one, other = torch.tensor(pairs).T
    x, y = cues[one] - cues[other], colour[one] - colour[other]

    def solve(x: Tensor, y: Tensor) -> Tensor:
        return torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]).to(x), x.T @ y)

    fold = torch.arange(len(pairs)) % FOLDS
    left = torch.empty_like(y)
    for k in range(FOLDS):
        left[fold == k] = y[fold == k] - x[fold == k] @ solve(x[fold != k], y[fold != k])
    share = 1 - left.square().mean(0) / y.square().mean(0)
    words = ", ".join(
        f"{s:.0%} of {n}" for s, n in zip(share, ("level", "red", "blue"), strict=True)
    )
    log = cues @ solve(x, y)
    return from_log_opponents((log - log.median(0).values).float()), f"{words} ({len(pairs)} pairs)"
