"""The same application on Ray Serve: ``serve run engine.serve.ray:app``.

Every replica has a counter of its own, with as many threads as Ray gives it cores. How many replicas and cores there
are is Ray Serve's affair: its configuration file sets ``num_replicas`` and ``ray_actor_options`` of deployment "crowd".
The token is that of CROWD_TOKEN in the environment of the replicas; without one, only requests for this machine's
loopback names are answered.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from fastapi import FastAPI

from engine.counter import CrowdCounter
from engine.serve.app import create_app
from engine.serve.settings import TOKEN_VARIABLE, ServeSettings

# Where the configuration says nothing: the cores of each replica, and the requests that Ray Serve hands to one at
# once. The application itself refuses those that are too many.
_CORES, _ONGOING = 2, 64


def __getattr__(name: str) -> Any:
    if name == "app":
        return _deployment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _deployment() -> Any:
    # Here, so that the module can be looked at where there is no Ray.
    from ray import serve

    deployment = serve.deployment(name="crowd", max_ongoing_requests=_ONGOING, ray_actor_options={"num_cpus": _CORES})
    return deployment(serve.ingress(build)()).bind()


def build() -> FastAPI:
    """The application of one replica, in its process."""
    import ray

    token = os.environ.get(TOKEN_VARIABLE) or None
    cores = int(ray.get_runtime_context().get_assigned_resources().get("CPU", _CORES))
    counter = CrowdCounter(performance="throughput", cpu_threads=max(cores, 1))
    # Where the proxy listens is Ray's affair.
    settings = ServeSettings(host="0.0.0.0" if token else "127.0.0.1", token=token)
    return create_app(counter, settings)
