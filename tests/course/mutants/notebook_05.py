"""Plausible mistakes in the exercises of notebook 05, and right answers written differently."""

from functools import partial

import torch

# Eq. 4 ----------------------------------------------------------------------------------------


def pixel_right(rendered, photo, mask, reduction="sum"):
    mask = mask.detach()
    difference = (mask * (rendered - photo) ** 2).sum((1, 2, 3))
    if reduction == "sum":
        return difference.mean()
    return (difference / (3 * mask.sum((1, 2, 3))).clamp(min=1)).mean()


def pixel_live(rendered, photo, mask, reduction="sum"):
    difference = (mask * (rendered - photo) ** 2).sum((1, 2, 3))
    if reduction == "sum":
        return difference.mean()
    return (difference / (3 * mask.sum((1, 2, 3))).clamp(min=1)).mean()


def pixel_no_mask(rendered, photo, mask, reduction="sum"):
    return pixel_right(rendered, photo, torch.ones_like(mask), reduction)


def pixel_one_sided_mask(rendered, photo, mask, reduction="sum"):
    mask = mask.detach()
    difference = ((mask * photo - rendered) ** 2).sum((1, 2, 3))
    if reduction == "sum":
        return difference.mean()
    return (difference / (3 * mask.sum((1, 2, 3))).clamp(min=1)).mean()


def pixel_absolute(rendered, photo, mask, reduction="sum"):
    mask = mask.detach()
    difference = (mask * (rendered - photo).abs()).sum((1, 2, 3))
    if reduction == "sum":
        return difference.mean()
    return (difference / (3 * mask.sum((1, 2, 3))).clamp(min=1)).mean()


def pixel_norm(rendered, photo, mask, reduction="sum"):
    mask = mask.detach()
    difference = (mask * (rendered - photo) ** 2).sum((1, 2, 3)).sqrt()
    if reduction == "sum":
        return difference.mean()
    return (difference / (3 * mask.sum((1, 2, 3))).clamp(min=1)).mean()


def pixel_batch_sum(rendered, photo, mask, reduction="sum"):
    return pixel_right(rendered, photo, mask, reduction) * len(photo)


def pixel_always_sum(rendered, photo, mask, reduction="sum"):
    return pixel_right(rendered, photo, mask)


def pixel_pooled_mean(rendered, photo, mask, reduction="sum"):
    if reduction == "sum":
        return pixel_right(rendered, photo, mask)
    mask = mask.detach()
    return (mask * (rendered - photo) ** 2).sum() / (3 * mask.sum()).clamp(min=1)


def pixel_mean_of_image(rendered, photo, mask, reduction="sum"):
    if reduction == "sum":
        return pixel_right(rendered, photo, mask)
    return (mask.detach() * (rendered - photo) ** 2).mean()


def pixel_two_channels_too_few(rendered, photo, mask, reduction="sum"):
    value = pixel_right(rendered, photo, mask, reduction)
    return value if reduction == "sum" else 3 * value


def pixel_nan_when_empty(rendered, photo, mask, reduction="sum"):
    if reduction == "sum":
        return pixel_right(rendered, photo, mask)
    mask = mask.detach()
    return ((mask * (rendered - photo) ** 2).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))).mean()


def pixel_all_detached(rendered, photo, mask, reduction="sum"):
    return pixel_right(rendered.detach(), photo, mask, reduction)


def pixel_live_divisor(rendered, photo, mask, reduction="sum"):
    summed = (mask.detach() * (rendered - photo) ** 2).sum((1, 2, 3))
    if reduction == "mean":
        summed = summed / (3 * mask.sum((1, 2, 3))).clamp(min=1)
    return summed.mean()


def pixel_empty_left_out(rendered, photo, mask, reduction="sum"):
    value = pixel_right(rendered, photo, mask, reduction)
    share = (mask.sum((1, 2, 3)) > 0).float().mean()
    return value / share if reduction == "mean" else value


def pixel_one_a_photo(rendered, photo, mask, reduction="sum"):
    return (mask.detach() * (rendered - photo) ** 2).sum((1, 2, 3))


def pixel_grey(rendered, photo, mask, reduction="sum"):
    mask = mask.detach()
    grey = (rendered.sum(1, keepdim=True) - photo.sum(1, keepdim=True)) ** 2
    return (mask * grey).sum((1, 2, 3)).mean()


def pixel_looped(rendered, photo, mask, reduction="sum"):
    total = 0
    for r, p, m in zip(rendered, photo, mask.detach(), strict=True):
        chosen = (r - p)[:, m[0] > 0]
        value = (chosen**2).sum()
        if reduction == "mean":
            value = value / max(chosen.numel(), 1)
        total = total + value
    return total / len(photo)


def pixel_as_printed(rendered, photo, mask, reduction="sum"):
    covered = mask.detach().expand_as(photo)
    squared = torch.square(rendered * covered - photo * covered).flatten(1)
    if reduction == "mean":
        return (squared.sum(1) / covered.flatten(1).sum(1).clamp(min=1)).mean()
    return squared.sum() / rendered.shape[0]


def pixel_in_place(rendered, photo, mask, reduction="sum"):
    photo -= rendered
    photo *= mask.data
    norm = torch.linalg.vector_norm(photo, dim=(1, 2, 3)) ** 2
    if reduction == "mean":
        norm = norm / (3 * mask.data.sum((1, 2, 3)) + 1e-9)
    return norm.mean()


# Eq. 5 ----------------------------------------------------------------------------------------


def landmark_right(points, landmarks, weights=None):
    distance = (points - landmarks).abs().sum(-1)
    if weights is not None:
        distance = distance * weights
    return distance.sum(1).mean() / 68


def landmark_squared(points, landmarks, weights=None):
    weights = torch.ones(68) if weights is None else weights
    return (((points - landmarks) ** 2).sum(-1) * weights).sum(1).mean() / 68


def landmark_euclidean(points, landmarks, weights=None):
    weights = torch.ones(68) if weights is None else weights
    return ((points - landmarks).norm(dim=-1) * weights).sum(1).mean() / 68


def landmark_signed(points, landmarks, weights=None):
    weights = torch.ones(68) if weights is None else weights
    return ((points - landmarks).sum(-1) * weights).sum(1).mean() / 68


def landmark_mean_of_all(points, landmarks, weights=None):
    return landmark_right(points, landmarks, weights) / 2


def landmark_not_over_68(points, landmarks, weights=None):
    return landmark_right(points, landmarks, weights) * 68


def landmark_batch_sum(points, landmarks, weights=None):
    return landmark_right(points, landmarks, weights) * len(points)


def landmark_unweighted(points, landmarks, weights=None):
    return landmark_right(points, landmarks)


def landmark_weighted_mean(points, landmarks, weights=None):
    value = landmark_right(points, landmarks, weights)
    return value if weights is None else value * 68 / weights.sum()


def landmark_detached(points, landmarks, weights=None):
    return landmark_right(points.detach(), landmarks, weights)


def landmark_first_only(points, landmarks, weights=None):
    return landmark_right(points[:1], landmarks[:1], weights)


def landmark_needs_weights(points, landmarks, weights=None):
    return landmark_right(points, landmarks, weights) if weights is not None else None


def landmark_einsum(points, landmarks, weights=None):
    if weights is None:
        weights = points.new_ones(points.shape[1])
    return torch.einsum("bpc,p->b", (points - landmarks).abs(), weights).mean() / 68


def landmark_functional(points, landmarks, weights=None):
    distance = torch.nn.functional.l1_loss(points, landmarks, reduction="none").sum(2)
    return (distance * (1 if weights is None else weights)).mean()


def landmark_looped(points, landmarks, weights=None):
    total = 0
    for b in range(len(points)):
        for i in range(68):
            x, y = points[b, i] - landmarks[b, i]
            total = total + (x.abs() + y.abs()) * (1 if weights is None else weights[i])
    return total / len(points) / 68


# Eq. 6 ----------------------------------------------------------------------------------------


def features_right(rendered_features, photo_features):
    return (rendered_features - photo_features).abs().sum(-1).mean()


def features_mean(rendered_features, photo_features):
    return (rendered_features - photo_features).abs().mean()


def features_euclidean(rendered_features, photo_features):
    return (rendered_features - photo_features).norm(dim=-1).mean()


def features_squared(rendered_features, photo_features):
    return ((rendered_features - photo_features) ** 2).sum(-1).mean()


def features_signed(rendered_features, photo_features):
    return (rendered_features - photo_features).sum(-1).mean()


def features_batch_sum(rendered_features, photo_features):
    return (rendered_features - photo_features).abs().sum()


def features_cosine(rendered_features, photo_features):
    return 1 - torch.cosine_similarity(rendered_features, photo_features).mean()


def features_absolute_outside(rendered_features, photo_features):
    return (rendered_features - photo_features).sum(-1).abs().mean()


def features_detached(rendered_features, photo_features):
    return features_right(rendered_features.detach(), photo_features)


def features_a_face(rendered_features, photo_features):
    return (rendered_features - photo_features).abs().sum(-1)


def features_vector_norm(rendered_features, photo_features):
    return torch.linalg.vector_norm(rendered_features - photo_features, ord=1, dim=1).mean()


def features_divided(rendered_features, photo_features):
    total = torch.nn.functional.l1_loss(rendered_features, photo_features, reduction="sum")
    return total / len(photo_features)


def features_looped(rendered_features, photo_features):
    each = [(a - b).abs().sum() for a, b in zip(rendered_features, photo_features, strict=True)]
    return sum(each) / len(each)


# Eq. 7 ----------------------------------------------------------------------------------------


def sum_right(terms, weights):
    return sum(weights[name] * value for name, value in terms.items())


def sum_by_order(terms, weights):
    return sum(w * v for w, v in zip(weights.values(), terms.values(), strict=False))


def sum_forgiving(terms, weights):
    return sum(weights.get(name, 0.0) * value for name, value in terms.items())


def sum_weight_one(terms, weights):
    return sum(weights.get(name, 1.0) * value for name, value in terms.items())


def sum_unweighted(terms, weights):
    return sum(terms.values())


def sum_mean(terms, weights):
    return sum_right(terms, weights) / len(terms)


def sum_normalised(terms, weights):
    return sum_right(terms, weights) / sum(weights.values())


def sum_of_weights(terms, weights):
    return sum(weight * terms.get(name, 0.0) for name, weight in weights.items())


def sum_reports(terms, weights):
    return terms["pixel"] + terms["landmark"] + 20 * terms["recognition"]


def sum_item(terms, weights):
    return torch.tensor(sum(weights[name] * value.item() for name, value in terms.items()))


def sum_first(terms, weights):
    for name, value in terms.items():
        return weights[name] * value


def sum_silent(terms, weights):
    return sum_right(terms, weights) if set(terms) <= set(weights) else None


def sum_value_error(terms, weights):
    if not set(terms) <= set(weights):
        raise ValueError("no weight")
    return sum_right(terms, weights)


def sum_three(terms, weights):
    names = ("pixel", "landmark", "recognition")
    return sum_right({name: terms[name] for name in names if name in terms}, weights)


def sum_looped(terms, weights):
    total = torch.zeros(())
    for name in terms:
        if name not in weights:
            raise KeyError(f"no weight for {name}")
        total = total + terms[name] * weights[name]
    return total


def sum_stacked(terms, weights):
    values = torch.stack([terms[name] for name in sorted(terms)])
    return values @ torch.tensor([float(weights[name]) for name in sorted(terms)])


# The loop -------------------------------------------------------------------------------------


def _loop(
    loss_of, start, learning_rates, steps, *,
    zero="before", anew=False, kind=torch.optim.Adam, late=False, sign=1.0, one_rate=False,
    everything=False, step=True, keep=False, extra=0, returns="found", backward=True, betas=None,
):  # fmt: skip
    p = {name: value.clone() for name, value in start.items()}
    names = list(p) if everything else list(learning_rates)
    for name in names:
        p[name].requires_grad_()

    def made():
        rate = next(iter(learning_rates.values()))
        rates = {n: rate if one_rate else learning_rates.get(n, rate) for n in names}
        more = {} if betas is None else {"betas": betas}
        return kind([{"params": [p[n]], "lr": rates[n]} for n in names], **more)

    adam, losses = made(), []
    for _ in range(steps + extra):
        if anew:
            adam = made()
        loss = loss_of(p)
        if zero == "before":
            adam.zero_grad()
        if backward:
            (sign * loss).backward()
        if zero == "after":
            adam.zero_grad()
        if step:
            adam.step()
        if late:
            loss = loss_of(p)
        losses.append(loss if keep else loss.item())
    found = {name: value.detach() for name, value in p.items()}
    if returns == "start":
        found = start
    if returns == "moved":
        found = {name: found[name] for name in names}
    if returns == "last":
        return found, losses[-1]
    if returns == "losses":
        return losses
    return found, losses


def _mutant(**kwargs):
    def fit_face(loss_of, start, learning_rates, steps):
        return _loop(loss_of, start, learning_rates, steps, **kwargs)

    return fit_face


def fit_detaching(loss_of, start, learning_rates, steps):
    p = {name: value.clone().requires_grad_() for name, value in start.items()}
    adam = torch.optim.Adam([{"params": [p[n]], "lr": r} for n, r in learning_rates.items()])
    losses = []
    for _ in range(steps):
        loss = loss_of({name: value.detach().requires_grad_() for name, value in p.items()})
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return {name: value.detach() for name, value in p.items()}, losses


def fit_by_hand(loss_of, start, learning_rates, steps):
    p = {name: value.clone() for name, value in start.items()}
    first = {name: torch.zeros_like(p[name]) for name in learning_rates}
    second = {name: torch.zeros_like(p[name]) for name in learning_rates}
    losses = []
    for step in range(1, steps + 1):
        leaves = {name: p[name].detach().requires_grad_() for name in learning_rates}
        loss = loss_of(p | leaves)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, rate), g in zip(learning_rates.items(), gradients, strict=True):
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            root = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
            p[name] = p[name] - rate * first[name] / (1 - 0.9**step) / root
        losses.append(float(loss.detach()))
    return p, losses


def fit_one_optimizer_each(loss_of, start, learning_rates, steps):
    for name in learning_rates:
        start[name].requires_grad_(True)
    adams = [torch.optim.Adam([start[name]], lr=rate) for name, rate in learning_rates.items()]
    losses = []
    for _ in range(steps):
        loss = loss_of(start)
        loss.backward()
        losses.append(loss.item())
        for adam in adams:
            adam.step()
            adam.zero_grad()
    return {name: value.detach() for name, value in start.items()}, losses


def fit_still_attached(loss_of, start, learning_rates, steps):
    found, losses = _loop(loss_of, start, learning_rates, steps)
    return {name: value.requires_grad_() for name, value in found.items()}, losses


def fit_losses_sorted(loss_of, start, learning_rates, steps):
    found, losses = _loop(loss_of, start, learning_rates, steps)
    return found, sorted(losses, reverse=True)


def fit_amsgrad(loss_of, start, learning_rates, steps):
    return _loop(
        loss_of, start, learning_rates, steps, kind=partial(torch.optim.Adam, amsgrad=True)
    )


def fit_recorded_as_tensors(loss_of, start, learning_rates, steps):
    found, losses = _loop(loss_of, start, learning_rates, steps)
    return found, [torch.tensor(v) for v in losses]


MUTANTS = {
    "pixel_loss": {
        "the mask is live": pixel_live,
        "no mask": pixel_no_mask,
        "the mask on the photo alone": pixel_one_sided_mask,
        "absolute differences": pixel_absolute,
        "the norm, not squared": pixel_norm,
        "not divided by the batch": pixel_batch_sum,
        "reduction ignored": pixel_always_sum,
        "all photos' pixels in one pot": pixel_pooled_mean,
        "the mean over all pixels": pixel_mean_of_image,
        "the mean forgets that there are three channels": pixel_two_channels_too_few,
        "nan for a face that covers nothing": pixel_nan_when_empty,
        "no gradient at all": pixel_all_detached,
        "one value a photo": pixel_one_a_photo,
        "channels added before they are squared": pixel_grey,
        "the mask is live in the mean's divisor": pixel_live_divisor,
        "empty photos left out of the average": pixel_empty_left_out,
        "the first photo's mask for all": lambda r, p, m, reduction="sum": pixel_right(
            r, p, m[:1].expand_as(m), reduction
        ),
    },
    "landmark_loss": {
        "squared": landmark_squared,
        "Euclidean": landmark_euclidean,
        "no absolute value": landmark_signed,
        "averaged over x and y": landmark_mean_of_all,
        "not divided by 68": landmark_not_over_68,
        "not divided by the batch": landmark_batch_sum,
        "weights ignored": landmark_unweighted,
        "divided by the weights' sum": landmark_weighted_mean,
        "no gradient": landmark_detached,
        "the first face alone": landmark_first_only,
        "nothing returned without weights": landmark_needs_weights,
        "weights squared": lambda p, y, weights=None: landmark_right(
            p, y, None if weights is None else weights**2
        ),
        "Huber's": lambda p, y, weights=None: (
            torch.nn.functional.smooth_l1_loss(p, y, reduction="none").sum(-1)
            * (1 if weights is None else weights)
        ).mean(),
    },
    "recognition_loss": {
        "averaged over the features": features_mean,
        "Euclidean": features_euclidean,
        "squared": features_squared,
        "no absolute value": features_signed,
        "not divided by the batch": features_batch_sum,
        "cosine": features_cosine,
        "absolute value after the sum": features_absolute_outside,
        "no gradient": features_detached,
        "one value a face": features_a_face,
        "every face against every photo": lambda a, b: torch.cdist(a, b, p=1).mean(),
        "the mean, 128 times": lambda a, b: (a - b).abs().mean() * 128,
    },
    "base_loss": {
        "matched by order": sum_by_order,
        "0 where there is no weight": sum_forgiving,
        "1 where there is no weight": sum_weight_one,
        "weights ignored": sum_unweighted,
        "the mean": sum_mean,
        "divided by the weights' sum": sum_normalised,
        "over the weights, so a term without one is lost": sum_of_weights,
        "the report's weights and names": sum_reports,
        "no gradient": sum_item,
        "the first term alone": sum_first,
        "None for a term without a weight": sum_silent,
        "ValueError for a term without a weight": sum_value_error,
        "only the report's three terms": sum_three,
    },
    "fit_face": {
        "gradients pile up": _mutant(zero="never"),
        "zeroed between backward and step": _mutant(zero="after"),
        "a new optimiser at each step": _mutant(anew=True),
        "plain gradient descent": _mutant(kind=torch.optim.SGD),
        "AdamW": _mutant(kind=torch.optim.AdamW),
        "other betas": _mutant(betas=(0.5, 0.9)),
        "losses recorded after the step": _mutant(late=True),
        "uphill": _mutant(sign=-1.0),
        "one learning rate for all": _mutant(one_rate=True),
        "also what has no learning rate": _mutant(everything=True),
        "no step": _mutant(step=False),
        "no backward": _mutant(backward=False),
        "losses keep their graphs": _mutant(keep=True),
        "a step too many": _mutant(extra=1),
        "a step too few": _mutant(extra=-1),
        "the start is returned": _mutant(returns="start"),
        "only what moved is returned": _mutant(returns="moved"),
        "only the last loss": _mutant(returns="last"),
        "only the losses": _mutant(returns="losses"),
        "detached before the loss": fit_detaching,
        "what is found still asks for gradients": fit_still_attached,
        "losses in descending order": fit_losses_sorted,
        "Adam with amsgrad": fit_amsgrad,
    },
}

ALTERNATIVES = {
    "pixel_loss": {
        "a loop over photos": pixel_looped,
        "as printed, both images masked": pixel_as_printed,
        "in place": pixel_in_place,
    },
    "landmark_loss": {
        "einsum": landmark_einsum,
        "torch's l1_loss": landmark_functional,
        "a loop": landmark_looped,
    },
    "recognition_loss": {
        "vector_norm": features_vector_norm,
        "torch's l1_loss": features_divided,
        "a loop": features_looped,
    },
    "base_loss": {"a sum of products": sum_right, "a loop": sum_looped, "stacked": sum_stacked},
    "fit_face": {
        "Adam by hand": fit_by_hand,
        "one optimiser each, in place": fit_one_optimizer_each,
        "losses as tensors": fit_recorded_as_tensors,
        "the loop above": _mutant(),
    },
}
