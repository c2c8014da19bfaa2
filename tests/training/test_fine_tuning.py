"""Fine-tuning: kept where held-out pictures are counted better, else the start's weights come out; it goes on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import MODEL, make_pictures

from engine.cli import main as crowd
from engine.config import CountingRule
from engine.dataset.samples import Sample, find_samples
from engine.errors import ConfigError
from engine.image.load import load_image
from engine.model.checkpoint import load_counting, load_network, save_model
from engine.model.network import CrowdNetwork
from engine.training import fine_tuning
from engine.training.__main__ import main as training
from engine.training.augment import AugmentConfig
from engine.training.calibrate import pixels, set_signature
from engine.training.config import TrainConfig
from engine.training.fine_tuning import fine_tune, merge, read_signatures, split_groups, with_own_rate
from engine.training.recipe import FINE_TUNING, read_recipe
from engine.training.train import train

# The encoder's count, where the map has as many peaks.
RULE = CountingRule(0.1, 0.9, 0.5, 2.0)
QUICK = TrainConfig(iterations=1, batch=1, learning_rate=1e-4, fixed="all_but_rate", model=MODEL)


@pytest.fixture
def data(tmp_path):
    make_pictures(tmp_path / "data", 12)
    return tmp_path / "data"


@pytest.fixture
def start(data, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "start.pt"
    network = CrowdNetwork(MODEL).eval()
    set_signature(network, find_samples(data) * 6)
    save_model(network, {2: dataclasses.asdict(RULE)}, path)
    return path


def same_weights(path, other) -> bool:
    mine, theirs = (load_network(p).state_dict() for p in (path, other))
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.fixture
def crowded(tmp_path):
    """Twelve pictures of twelve heads each."""
    points = make_pictures(tmp_path / "crowded", 12)
    heads = [[5.0 * i, 60.0 - 4 * i] for i in range(1, 13)]
    (tmp_path / "crowded" / "points.json").write_text(json.dumps(dict.fromkeys(points, heads)))
    return find_samples(tmp_path / "crowded")


@pytest.fixture
def too_few(data, tmp_path):
    """A network that has peaks all over its map, but expects 3 people in any picture of 64x64."""
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL).eval()
    torch.nn.init.normal_(network.decoder.out.weight, std=0.5)
    set_signature(network, find_samples(data) * 6)
    save_model(network, {2: dataclasses.asdict(CountingRule(0.05, 1.0, 0.5, 2.0))}, tmp_path / "too_few.pt")
    return tmp_path / "too_few.pt"


def test_what_helps_is_kept_unless_it_harms_elsewhere(crowded, too_few, tmp_path):
    config = TrainConfig(
        iterations=8,
        batch=2,
        optimizer="adamw",
        learning_rate=0.1,
        warmup=1,
        ema=0.5,
        weight_decay=0,
        fixed="all_but_rate",
        augment=AugmentConfig(negatives=0.0, scale=(1, 1), padding=0),
    )
    out = tmp_path / "out"
    verdict = fine_tune(config, crowded, out, start=too_few, progress=False)
    assert not verdict.refusal
    assert verdict.own.is_better
    assert (verdict.own.pictures, verdict.kept) == (12, None)
    assert not same_weights(out / "model.pt", too_few)
    assert load_counting(out / "model.pt") == load_counting(too_few)
    # The same run, where pictures of few people must be counted as well as before.
    make_pictures(tmp_path / "few", 24)
    few = [sample for sample in find_samples(tmp_path / "few") if len(sample.points) < 5]
    again = fine_tune(config, crowded, out, start=too_few, keep=few, resume=True)
    assert again.own == verdict.own
    assert again.kept is not None
    assert again.kept.is_worse
    assert again.refusal == "worse beyond twice the standard error on the pictures to keep"
    assert same_weights(out / "model.pt", too_few)


def test_what_harms_is_refused(data, too_few, tmp_path, capsys):
    """The last quarter of the pictures is annotated wrongly: what it teaches is wrong for the others."""
    rng = np.random.default_rng(1)
    names = sorted(json.loads((data / "points.json").read_text()))
    wrong = {name: rng.uniform(2, 62, (3 if i < 9 else 60, 2)).tolist() for i, name in enumerate(names)}
    (data / "points.json").write_text(json.dumps(wrong))
    out = tmp_path / "out"
    settings = ["--start", str(too_few), "--out", str(out), "--iterations", "4", "--batch", "2", "--crop", "64"]
    assert crowd(["train", str(data), *settings, "--learning-rate", "0.1"]) == 1
    told = capsys.readouterr()
    assert "pictures that were held out: mean absolute error" in told.out
    assert "fine-tuning is refused, no better" in told.err
    assert "has the weights that it started from" in told.err
    assert same_weights(out / "model.pt", too_few)
    assert load_counting(out / "model.pt") == load_counting(too_few)
    assert json.loads((out / "verdict.json").read_text())["refusal"]
    assert not same_weights(out / "network_1" / "best.pt", too_few)


def test_a_stopped_run_goes_on(data, start, tmp_path, monkeypatch):
    samples = find_samples(data)
    fine_tune(QUICK, samples, tmp_path / "straight", start=start, progress=False)
    trained = []

    def stop_at_second(*arguments, **options):
        trained.append(arguments[3].name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    real = fine_tuning.train
    monkeypatch.setattr(fine_tuning, "train", stop_at_second)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(QUICK, samples, out, start=start, progress=False)
    first = (out / "network_1" / "last.pt").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="holds a fine-tuning already"):
        fine_tune(QUICK, samples, out, start=start, progress=False)
    faster = dataclasses.replace(QUICK, learning_rate=1e-3)
    scene = np.zeros((64, 64, 3), np.uint8)
    for message, config, chosen, options in (
        ("12 pictures to train on, and now there are 12; 1 of", QUICK, samples[:-1] + samples[:1], {}),
        ("another start", QUICK, samples, {"start": "default"}),
        ("with other pictures without people", QUICK, samples, {"scenes": [scene]}),
        ("with learning_rate 0.0001 and not 0.001: leave", faster, samples, {}),
    ):
        with pytest.raises(ConfigError, match=message):
            fine_tune(config, chosen, out, **({"start": start} | options), resume=True, progress=False)
    fine_tune(QUICK, samples, out, start=start, resume=True, progress=False)
    assert (out / "network_1" / "last.pt").stat().st_mtime_ns == first
    for number in range(1, 7):
        assert same_weights(
            out / f"network_{number}" / "best.pt", tmp_path / "straight" / f"network_{number}" / "best.pt"
        )


def test_the_shipped_model_is_tuned_on_few_pictures(data, tmp_path):
    """Its norms, which the bundle has folded, are put back once for all networks."""
    out = tmp_path / "out"
    config = dataclasses.replace(read_recipe(FINE_TUNING), iterations=1, batch=1, crop=64, learning_rate=0.0)
    verdict = fine_tune(config, find_samples(data), out, start="default", progress=False)
    assert verdict.own.mean == 0
    assert verdict.refusal
    assert same_weights(out / "network_1" / "best.pt", out / "untuned.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exclude", "0", "1"], "at least 12 annotated pictures, got 8"),
        (["--validate", "5"], "--validate is for training anew"),
        (["--keep", "nowhere"], "data folder nowhere does not exist"),
        (["--keep", "{tmp}/data"], "12 pictures to keep are tuned on as well, such as"),
        (["--keep", "{tmp}/one"], "--keep takes at least 12 annotated pictures, got 1"),
        (["--recipe", str(FINE_TUNING), "--keep", "nowhere"], "--keep judges a fine-tuned model"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, data, start, tmp_path, capsys):
    make_pictures(tmp_path / "one", 1)
    options = [option.format(tmp=tmp_path) for option in options]
    assert crowd(["train", str(data), "--start", str(start), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.pt").exists()


def test_only_pictures_like_those_that_were_tuned_on_are_counted_otherwise(crowded, data, tmp_path):
    """Dark pictures are a domain of the start's, and stay as they are; bright ones are tuned on."""
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL).eval()
    torch.nn.init.normal_(network.decoder.out.weight, std=0.5)
    dark = [sample.image for sample in find_samples(data)]
    set_signature(network, find_samples(data) * 6)
    save_model(network, {2: dataclasses.asdict(RULE)}, tmp_path / "start.pt")
    for sample in crowded:
        Image.fromarray(255 - np.asarray(Image.open(sample.image)) // 2).save(sample.image)
    config = TrainConfig(
        iterations=8, batch=2, optimizer="adamw", learning_rate=0.1, warmup=1, ema=0.5, weight_decay=0,
        fixed="all_but_rate", augment=AugmentConfig(negatives=0.0, scale=(1, 1), padding=0),
    )  # fmt: skip
    verdict = fine_tune(config, crowded, tmp_path / "out", start=tmp_path / "start.pt", progress=False)
    assert verdict.own.is_better
    tuned = load_network(tmp_path / "out" / "model.pt")

    def heads(network, picture):
        with torch.inference_mode():
            return float(network.encoder(pixels(load_image(picture), network))[1].sum())

    for picture in dark:
        assert heads(tuned, picture) == pytest.approx(heads(network, picture), rel=1e-3)
    for sample in crowded:
        assert heads(tuned, sample.image) > 1.5 * heads(network, sample.image)
    # It can be tuned again, from its general rate.
    again = with_own_rate(tuned).encoder
    assert torch.equal(again.own_rate.out.weight, tuned.encoder.rate.out.weight)
    assert not again.likeness.mean.any()


@pytest.mark.parametrize("command", ["calibrate", "average", "train"])
def test_a_tuned_model_is_only_tuned(command, data, start, tmp_path):
    tuned = tmp_path / "tuned.pt"
    save_model(with_own_rate(load_network(start)), {2: dataclasses.asdict(RULE)}, tuned)
    options = {
        "calibrate": [str(tuned), str(data)],
        "average": [str(data), str(tuned), str(tuned)],
        "train": [str(data), "--recipe", str(FINE_TUNING), "--start", str(tuned)],
    }
    with pytest.raises(SystemExit, match="fine-tuned"):
        training([command, *options[command], "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="was fine-tuned, and can only be tuned again"):
        train(TrainConfig(iterations=1, model=MODEL), find_samples(data), [], tmp_path / "run", start=tuned)


def test_a_start_that_tells_no_pictures_apart_is_refused(data, tmp_path, capsys):
    network, rules = CrowdNetwork(MODEL).eval(), {2: dataclasses.asdict(RULE)}
    save_model(network, rules, tmp_path / "without_statistics.pt")
    set_signature(network, find_samples(data) * 6)
    save_model(network, {}, tmp_path / "without_rule.pt")
    for name, message in (("without_statistics", "has no statistics of its"), ("without_rule", "has no counting rule")):
        start, out = tmp_path / f"{name}.pt", tmp_path / name
        assert crowd(["train", str(data), "--start", str(start), "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()


def test_what_counts_a_group_has_seen_nothing_of_it(data, start, tmp_path, monkeypatch):
    samples = find_samples(data)
    calls = []

    def spy(start, tuned, share, signatures):
        calls.append((len(tuned), signatures))
        return merge(start, tuned, share, signatures)

    monkeypatch.setattr(fine_tuning, "merge", spy)
    fine_tune(QUICK, samples, tmp_path / "out", start=start, progress=False)
    network = load_network(tmp_path / "out" / "start.pt")
    groups = split_groups(samples)
    for number, (tuned, signatures) in enumerate(calls[:4]):
        others = [sample for group in groups if group is not groups[number] for sample in group]
        assert tuned == 3
        np.testing.assert_array_equal(signatures, read_signatures(network, others))


def test_a_picture_of_several_tiles_has_a_signature_of_each(start, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (1600, 2700, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "large.png")
    network = load_network(start)
    found = read_signatures(network, [Sample(tmp_path / "large.png", np.zeros((0, 2), np.float32), "a")])
    # Two rows and three columns of equal tiles, which overlap by 128 pixels on either side.
    assert len(found) == 6
    with torch.inference_mode():
        first = network.encoder(pixels(image[: 800 + 128, : 896 + 128], network))[2][0].numpy()
    np.testing.assert_allclose(found[0], first, rtol=1e-5, atol=1e-5)
