"""Fine-tuning on few pictures: a second rate for their like, by several networks, judged by what each has not seen."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.config import CountingRule
from engine.counting.heads import choose_rule
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.image.folders import natural_key
from engine.image.load import load_image
from engine.image.tiles import HostPicture, plan_tiles
from engine.model.checkpoint import load_counting, load_network, save_model
from engine.model.network import CrowdNetwork
from engine.training.calibrate import LEAST_OF_DOMAIN, pixels
from engine.training.config import TrainConfig
from engine.training.judge import Change, count_errors
from engine.training.run_record import (
    FINE_TUNING,
    digest,
    list_pictures,
    read_record,
    refuse_others,
    settings,
    start_name,
    write_record,
)
from engine.training.start import start_counting, start_model, start_network
from engine.training.train import make_batches, train

# The pictures are cut into so many groups, and a network is tuned on each pair of them.
GROUPS = 4
# With fewer pictures, the standard error of a change says little.
LEAST_PICTURES = 12
# Shares that the tuned weights may have in their mean with those of the start.
SHARES = (0.5, 1.0)
# Version of what a run does; one that was begun by another is not resumed.
_FORM = 3
# Denoising steps that pictures are counted with to compare models; a new bundle has the same default.
_STEPS = 2


@dataclass(frozen=True)
class Verdict:
    """What the pictures that were not tuned on say of the tuned model.

    Attributes:
        share: of the tuned weights in their mean with those of the start's rate.
        own: how the errors changed on the pictures that were tuned on, each counted by networks that have not seen it.
        kept: the same on other pictures that the model should still count as well, if some were given.
        refusal: why the start's weights are kept; empty if they are not.
    """

    share: float
    own: Change
    kept: Change | None
    refusal: str


def fine_tune(
    config: TrainConfig,
    samples: Sequence[Sample],
    out: Path,
    *,
    start: str | Path,
    keep: Sequence[Sample] = (),
    device: str = "cpu",
    resume: bool = False,
    compiled: bool = False,
    scenes: Sequence[np.ndarray] = (),
    progress: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Verdict:
    """Tune the model ``start`` on few pictures, and write ``out/model.pt``: tuned where that is better, else the start.

    What is tuned is a copy of the encoder's rate. The tuned model has both, and the copy has the share of a picture's
    heads that is the probability of its being of the same place as the pictures that were tuned on
    (:class:`engine.model.signature.Likeness`). So pictures of other places are counted as before.

    The pictures are cut into :data:`GROUPS` groups, and a network is tuned on each pair of them. The mean of all these
    networks' weights, averaged with the start's, is the tuned one (Wortsman et al., "Model soups", ICML 2022, and
    "Robust fine-tuning of zero-shot models", CVPR 2022). The mean of those that have not seen a group, with the
    likeness to the other groups, counts it; those counts are judged.

    Args:
        config: of each of these runs; ``model`` is taken from the start.
        device, compiled, scenes, progress: as of :func:`engine.training.train.train`.
        keep: pictures of other kinds that the model must not become clearly worse on; never trained on.
        resume: go on with a run in ``out``, of the same settings, start and pictures.
        options: of the command, to be kept for when the run is resumed.

    Raises:
        ConfigError: too few pictures, or pictures to keep that are tuned on; the start has no counting rule or no
            statistics of its training pictures; or ``out`` holds a run that is not to be resumed, or one of something
            else.
    """
    if len(samples) < LEAST_PICTURES:
        raise ConfigError(
            f"fine-tuning takes at least {LEAST_PICTURES} annotated pictures, got {len(samples)}: of fewer, those that "
            "are held out cannot tell whether it helps"
        )
    _check_kept(samples, keep)
    about = {
        "form": _FORM,
        "start": start_name(start),
        "pictures": {"trained": list_pictures(samples)},
        "scenes": digest(scenes),
        "config": settings(config),
        "options": dict(options or {}),
    }
    _begin(config, samples, out, start, resume, about)
    origin, rules = load_network(out / "start.pt"), load_counting(out / "start.pt")
    untuned = with_own_rate(origin)
    save_model(untuned, {}, out / "untuned.pt")
    groups = split_groups(samples)
    pairs = list(itertools.combinations(range(len(groups)), 2))
    tuned = []
    for number, pair in enumerate(pairs, 1):
        chosen = [sample for group in pair for sample in groups[group]]
        print(f"network {number} of {len(pairs)}: {len(chosen)} of {len(samples)} pictures to tune on")
        own = dataclasses.replace(config, seed=config.seed + number)
        where = out / f"network_{number}"
        path = train(own, chosen, [], where, device, resume, out / "untuned.pt", progress, compiled, scenes)
        tuned.append(load_network(path))
    signatures = [read_signatures(origin, group) for group in groups]

    def merged(share: float, left_out: int | None = None) -> CrowdNetwork:
        """The tuned model, or what it is without the pictures of one group."""
        networks = [network for network, pair in zip(tuned, pairs, strict=True) if left_out not in pair]
        return merge(untuned, networks, share, np.concatenate([x for i, x in enumerate(signatures) if i != left_out]))

    verdict = _judge(origin, merged, groups, choose_rule(rules, _STEPS), keep)
    network = origin if verdict.refusal else merged(verdict.share)
    save_model(network, {number: dataclasses.asdict(rule) for number, rule in rules.items()}, out / "model.pt")
    write_record(out / "verdict.json", dataclasses.asdict(verdict))
    return verdict


def split_groups(samples: Sequence[Sample], groups: int = GROUPS) -> list[list[Sample]]:
    """``samples`` in groups, neighbours together: pictures of one minute are too alike to judge each other.

    Neighbours are those whose names follow each other, by the value of their numbers. Every part of the data has its
    share in each group.
    """
    ordered = sorted(samples, key=lambda sample: natural_key(str(sample.image)))
    parts = [[s for s in ordered if s.part == part] for part in sorted({s.part for s in samples})]
    cut = [np.array_split(np.arange(len(part)), groups) for part in parts]
    return [[part[i] for part, pieces in zip(parts, cut, strict=True) for i in pieces[k]] for k in range(groups)]


def choose_share(before: np.ndarray, now: Mapping[float, np.ndarray]) -> float:
    """The largest share whose mean error is below that of ``before``; the smallest if none is. All errors are [N].

    The tuned model has seen all pictures, these networks half of them: its best share is likely larger than theirs.

    >>> choose_share(np.array([4.0, 4, 4]), {0.5: np.array([3.0, 3, 3]), 1.0: np.array([3.0, 4, 4])})
    1.0
    """
    return max((share for share in now if now[share].mean() < before.mean()), default=min(now))


def with_own_rate(start: CrowdNetwork) -> CrowdNetwork:
    """``start`` with a copy of its rate to be tuned, in place of one that was tuned before."""
    network = CrowdNetwork(dataclasses.replace(start.config, own_rate=True))
    kept = {name: value for name, value in start.state_dict().items() if "likeness" not in name}
    copied = {f"encoder.own_{name}": value for name, value in start.encoder.rate.state_dict(prefix="rate.").items()}
    network.load_state_dict(network.state_dict() | kept | copied)
    return network.eval()


@torch.inference_mode()
def read_signatures(network: CrowdNetwork, samples: Sequence[Sample]) -> np.ndarray:
    """The signatures [N, domains * COMPONENTS] of pictures, one for each tile, as they are counted."""
    rows = []
    for sample in samples:
        picture = HostPicture(load_image(sample.image))
        for tile in plan_tiles(*picture.shape[:2]):
            rows.append(network.encoder(pixels(picture.crop(tile), network))[2][0].numpy())
    return np.stack(rows)


@torch.no_grad()
def merge(start: CrowdNetwork, tuned: Sequence[CrowdNetwork], share: float, signatures: np.ndarray) -> CrowdNetwork:
    """``start``, whose own rate has ``share`` of the mean of the tuned ones, for pictures like those of ``signatures``.

    Args:
        start, tuned: networks with a rate of their own.
        signatures: [N, domains * COMPONENTS].
    """
    network = copy.deepcopy(start)
    for name, parameter in network.encoder.own_rate.named_parameters():
        mean = torch.stack([other.encoder.own_rate.get_parameter(name) for other in tuned]).mean(dim=0)
        parameter.lerp_(mean, share)
    network.encoder.likeness.fit(torch.from_numpy(signatures))
    return network


def _check_kept(samples: Sequence[Sample], keep: Sequence[Sample]) -> None:
    """Refuse pictures to keep that cannot judge the tuned model."""
    if keep and len(keep) < LEAST_PICTURES:
        raise ConfigError(
            f"--keep takes at least {LEAST_PICTURES} annotated pictures, got {len(keep)}: fewer tell nothing"
        )
    tuned = {sample.image.resolve() for sample in samples}
    if seen := [sample.image for sample in keep if sample.image.resolve() in tuned]:
        raise ConfigError(
            f"{len(seen)} pictures to keep are tuned on as well, such as {seen[0]}, and say nothing of other places: "
            "name other pictures with --keep"
        )


def _check_same(out: Path, about: Mapping[str, Any]) -> None:
    """See that the run in ``out`` is what ``about`` says."""
    known = read_record(out)
    if known.get("form") != _FORM:
        raise ConfigError(
            f"the run in {out} was begun by another version, which tuned otherwise: name another folder to start anew"
        )
    refuse_others(out, known["pictures"], about["pictures"])
    for what, name in (("another start", "start"), ("other pictures without people", "scenes")):
        if known[name] != about[name]:
            raise ConfigError(
                f"the run in {out} was begun with {what} ({FINE_TUNING}): give the same, or name another folder"
            )
    then, now = known["config"], about["config"]
    if others := [name for name in now if then.get(name) != now[name]]:
        told = ", ".join(f"{name} {then.get(name)} and not {now[name]}" for name in others)
        raise ConfigError(
            f"the run in {out} was begun with {told}: leave such options out to go on, or name another folder"
        )


def _begin(
    config: TrainConfig,
    samples: Sequence[Sample],
    out: Path,
    start: str | Path,
    resume: bool,
    about: Mapping[str, Any],
) -> None:
    """Write the weights that every network starts from, and what they are tuned on; or see that a run has the same."""
    begun, weights = out / FINE_TUNING, out / "start.pt"
    if weights.is_file():
        if not resume:
            raise ConfigError(f"{out} holds a fine-tuning already: resume it, or name another folder")
        _check_same(out, about)
        return
    if any((out / name).is_file() for name in ("best.pt", "last.pt")):
        raise ConfigError(f"{out} holds a whole run: name another folder for a fine-tuning")
    model, rules = start_model(start), start_counting(start)
    if not rules:
        raise ConfigError(f"{start} has no counting rule: calibrate it first, with pictures like its training's")
    # A bundle's norms are put back once, so that the mean of several networks makes sense.
    network = start_network(start, make_batches(list(samples), dataclasses.replace(config, model=model), "cpu"))
    if not network.encoder.signature.weight.any():
        raise ConfigError(
            f"{start} has no statistics of its training pictures, which tell these from others: calibrate it first, "
            f"with at least {LEAST_OF_DOMAIN} pictures to train on"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_record(begun, about)
    save_model(network, {number: dataclasses.asdict(rule) for number, rule in rules.items()}, weights)


def _judge(
    start: CrowdNetwork,
    merged: Callable[..., CrowdNetwork],
    groups: Sequence[Sequence[Sample]],
    rule: CountingRule,
    keep: Sequence[Sample],
) -> Verdict:
    """What each of ``groups`` says of the model that is ``merged`` without it, and ``keep`` of the whole one."""

    def errors(network: CrowdNetwork, samples: Sequence[Sample]) -> np.ndarray:
        return count_errors(network, samples, rule, _STEPS)

    before = errors(start, [sample for group in groups for sample in group])
    now = {
        share: np.concatenate([errors(merged(share, number), group) for number, group in enumerate(groups)])
        for share in SHARES
    }
    share = choose_share(before, now)
    own = Change.of(before, now[share])
    # Pictures of other places are counted as before, so a gain that thirty cannot tell from chance is taken.
    if own.mean >= 0:
        return Verdict(share, own, None, "no better on pictures that were held out")
    kept = Change.of(errors(start, keep), errors(merged(share), keep)) if keep else None
    if kept and kept.is_worse:
        return Verdict(share, own, kept, "worse beyond twice the standard error on the pictures to keep")
    return Verdict(share, own, kept, "")
