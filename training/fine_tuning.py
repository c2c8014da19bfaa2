"""Fine-tuning on few pictures: several networks, averaged with the start, and judged by what each has not seen."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.config import CountingRule
from engine.counting.heads import choose_rule
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.model.checkpoint import load_counting, load_network, save_model
from engine.model.network import CrowdNetwork
from engine.system.files import whole_file
from engine.training.calibrate import calibrate
from engine.training.config import TrainConfig
from engine.training.judge import Change, count_errors
from engine.training.start import start_counting, start_model, start_network
from engine.training.train import make_batches, train

# The pictures are cut into so many groups, and a network is tuned on each pair of them.
GROUPS = 4
# With fewer pictures, the standard error of a change says little.
LEAST_PICTURES = 12
# Shares that the tuned weights may have in their mean with those of the start: the smaller, the less is lost elsewhere.
# All the way, 30 pictures of Beijing-BRT raised the error on ShanghaiTech's part B by 3.7, half-way by 2.8.
SHARES = (0.5, 1.0)
# Denoising steps that pictures are counted with to compare models; a new bundle has the same default.
_STEPS = 2


@dataclass(frozen=True)
class Verdict:
    """What the pictures that were not tuned on say of the tuned model.

    Attributes:
        share: of the tuned weights in their mean with the start.
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
) -> Verdict:
    """Tune the model ``start`` on few pictures, and write ``out/model.pt``: tuned where that is better, else the start.

    The pictures are cut into :data:`GROUPS` groups, and a network is tuned on each pair of them. The mean of all these
    networks' weights, averaged with the start, is the tuned model (Wortsman et al., "Model soups", ICML 2022, and
    "Robust fine-tuning of zero-shot models", CVPR 2022). The mean of those that have not seen a group, averaged with
    the start as well, counts it; those counts are judged.

    Args:
        config: of each of these runs; ``model`` is taken from the start.
        device, compiled, scenes, progress: as of :func:`engine.training.train.train`.
        keep: pictures of other kinds that the model must not become clearly worse on; never trained on.
        resume: go on with a run in ``out``, of the same start and pictures.

    Raises:
        ConfigError: too few pictures; or ``out`` holds a run that is not to be resumed, or one of something else.
    """
    if len(samples) < LEAST_PICTURES:
        raise ConfigError(
            f"fine-tuning takes at least {LEAST_PICTURES} annotated pictures, got {len(samples)}: of fewer, those that "
            "are held out cannot tell whether it helps"
        )
    _begin(config, samples, out, start, resume)
    origin, rules = load_network(out / "start.pt"), load_counting(out / "start.pt")
    groups = split_groups(samples)
    pairs = list(itertools.combinations(range(len(groups)), 2))
    tuned = []
    for number, pair in enumerate(pairs, 1):
        chosen = [sample for group in pair for sample in groups[group]]
        print(f"network {number} of {len(pairs)}: {len(chosen)} of {len(samples)} pictures to tune on")
        own = dataclasses.replace(config, seed=config.seed + number)
        where = out / f"network_{number}"
        path = train(own, chosen, [], where, device, resume, out / "start.pt", progress, compiled, scenes)
        tuned.append(load_network(path))
    unseen = [[net for net, pair in zip(tuned, pairs, strict=True) if i not in pair] for i in range(len(groups))]
    verdict = _judge(origin, tuned, groups, unseen, choose_rule(rules, _STEPS), keep)
    network = origin if verdict.refusal else blend(origin, tuned, verdict.share)
    save_model(network, {number: dataclasses.asdict(rule) for number, rule in rules.items()}, out / "model.pt")
    with whole_file(out / "verdict.json") as part:
        part.write_text(json.dumps(dataclasses.asdict(verdict), indent=2) + "\n", encoding="utf-8")
    return verdict


def split_groups(samples: Sequence[Sample], groups: int = GROUPS) -> list[list[Sample]]:
    """``samples`` in groups, neighbours together: pictures of one minute are too alike to judge each other.

    Every part of the data has its share in each group.
    """
    parts = [[s for s in samples if s.part == part] for part in sorted({s.part for s in samples})]
    cut = [np.array_split(np.arange(len(part)), groups) for part in parts]
    return [[part[i] for part, pieces in zip(parts, cut, strict=True) for i in pieces[k]] for k in range(groups)]


def choose_share(errors: Mapping[float, np.ndarray]) -> float:
    """Of shares with the errors [N] that they make, the smallest that no larger one is clearly better than.

    >>> choose_share({0.5: np.array([4.0, 4, 4]), 1.0: np.array([1.0, 4, 4])})
    0.5
    """
    shares = sorted(errors)
    chosen = shares[0]
    for share in shares[1:]:
        if Change.of(errors[chosen], errors[share]).is_better:
            chosen = share
    return chosen


@torch.no_grad()
def blend(start: CrowdNetwork, tuned: Sequence[CrowdNetwork], share: float) -> CrowdNetwork:
    """The network with ``share`` of the mean of the tuned weights, and the rest of ``start``'s."""
    mixed = CrowdNetwork(start.config)
    state = start.state_dict()
    for name, _ in start.named_parameters():
        state[name] = state[name].lerp(torch.stack([x.state_dict()[name] for x in tuned]).mean(dim=0), share)
    mixed.load_state_dict(state)
    return mixed.eval()


def _begin(config: TrainConfig, samples: Sequence[Sample], out: Path, start: str | Path, resume: bool) -> None:
    """Write the weights that every network starts from, and what they are tuned on; or see that a run has the same."""
    about = {"start": str(start), "pictures": [str(sample.image) for sample in samples]}
    begun, weights = out / "fine_tuning.json", out / "start.pt"
    if weights.is_file():
        if not resume:
            raise ConfigError(f"{out} holds a fine-tuning already: resume it, or name another folder")
        if json.loads(begun.read_text(encoding="utf-8")) != about:
            raise ConfigError(
                f"the run in {out} has another start or other pictures ({begun}): give those, or start anew"
            )
        return
    model = start_model(start)
    # A bundle's norms are put back once, so that the mean of several networks makes sense.
    network = start_network(start, make_batches(list(samples), dataclasses.replace(config, model=model), "cpu"))
    rules = start_counting(start) or {n: fit.rule for n, fit in calibrate(network, samples, samples).items()}
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(begun) as part:
        part.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    save_model(network, {number: dataclasses.asdict(rule) for number, rule in rules.items()}, weights)


def _judge(
    start: CrowdNetwork,
    tuned: Sequence[CrowdNetwork],
    groups: Sequence[Sequence[Sample]],
    unseen: Sequence[Sequence[CrowdNetwork]],
    rule: CountingRule,
    keep: Sequence[Sample],
) -> Verdict:
    """What each of ``groups`` says of the networks of ``unseen`` that were not tuned on it, and ``keep`` of all."""

    def errors(network: CrowdNetwork, samples: Sequence[Sample]) -> np.ndarray:
        return count_errors(network, samples, rule, _STEPS)

    before = errors(start, [sample for group in groups for sample in group])
    now = {}
    for share in SHARES:
        each = [errors(blend(start, nets, share), group) for nets, group in zip(unseen, groups, strict=True)]
        now[share] = np.concatenate(each)
    share = choose_share(now)
    own = Change.of(before, now[share])
    # Half-way to the start little can go wrong, so a gain that thirty pictures cannot tell from chance is taken.
    if own.mean >= 0:
        return Verdict(share, own, None, "no better on pictures that were held out")
    kept = Change.of(errors(start, keep), errors(blend(start, tuned, share), keep)) if keep else None
    if kept and kept.is_worse:
        return Verdict(share, own, kept, "worse beyond twice the standard error on the pictures to keep")
    return Verdict(share, own, kept, "")
