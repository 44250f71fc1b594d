"""How a training run is judged on the way: on faces that it does not learn from.

    numbers = validate(stage, network, batches, fabric)
    numbers["loss"], numbers["landmark_error"], numbers["terms"]["pixel"]

Serves notebooks 06 and 09.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import nn

from ..face.batch import FaceBatch
from .processes import gather, in_all
from .stage import Stage


@torch.no_grad()
def validate(
    stage: Stage,
    network: nn.Module,
    batches: Iterable[FaceBatch],
    fabric,
    show: Callable | None = None,
) -> dict:
    """Means over all faces of the loss, its terms and `stage.errors`; {} where there are none.

    The network has to be in eval mode. batches: this process's share; every process gets the means
    over all of them. show: called with the prediction, batch and objective of the first batch.
    Raises ShardsError in all processes if one cannot read its photos.
    """
    if fabric.world_size > 1:  # each process has running statistics of its own
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)

    def autocast_network(*images):
        with fabric.autocast():
            return network(*images)

    def sums() -> dict[str, float]:
        """Over the faces of this process, and their number."""
        share: dict[str, float] = defaultdict(float)
        for batch in batches:
            prediction = stage.predict(autocast_network, batch)
            objective = stage.objective(prediction, batch)
            if show is not None and not share:
                show(prediction, batch, objective)
            means = {"loss": objective.loss, **stage.errors(prediction, batch)}
            means |= {f"terms/{name}": value for name, value in objective.terms.items()}
            values = torch.stack([value.mean() for value in means.values()]) * len(batch)
            for name, value in zip(means, values.tolist(), strict=True):
                share[name] += value
            share["faces"] += len(batch)
        return share

    totals: dict[str, float] = defaultdict(float)
    for share in gather(fabric, in_all(fabric, sums)):
        for name, value in share.items():
            totals[name] += value
    if not totals:
        return {}
    count = totals.pop("faces")
    means = {name: value / count for name, value in totals.items()}
    terms = {k.removeprefix("terms/"): means.pop(k) for k in list(means) if k[:6] == "terms/"}
    return {"faces": int(count), **means, "terms": terms}
