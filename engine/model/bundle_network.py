"""The network of a bundle."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.bundle.bundle import WEIGHTS_FILE, Bundle
from engine.errors import BundleError
from engine.model.layers import fold_norms
from engine.model.network import CrowdNetwork


def load_bundle_network(bundle: Bundle) -> CrowdNetwork:
    """The network with the bundle's weights, in float32 and eval mode, its batch norms folded.

    Raises:
        BundleError: the weights cannot be read, or are those of another network.
    """
    path = bundle.path / WEIGHTS_FILE
    network = fold_norms(CrowdNetwork(bundle.model))
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"the weights in {path} are damaged or of another network: {error}") from error
    return network
