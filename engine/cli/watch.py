"""``crowd watch``: several cameras in one process, counted in turn."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.extras import needs_extra
from engine.cli.needed_options import refuse_alone
from engine.cli.serve import SERVER_OPTIONS, add_server_arguments, server_settings
from engine.cli.terminal import Status, printable, say
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.watch.config import Camera, WatchConfig
    from engine.watch.station import Follower, Station

MQTT_EXTRA = "mqtt"
# What it does, and examples.
TEXTS = (
    "count in several cameras at once",
    "crowd watch cameras.toml --serve\n"
    '  where cameras.toml has, for each camera:\n    [cameras.gate]\n    source = "rtsp://user:password@10.0.0.7/live"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are this command's own."""
    parser.add_argument("cameras", metavar="FILE", help="TOML file of cameras, folder and MQTT broker (docs/watch.md)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    parser.add_argument("--quiet", action="store_true", help="only errors and alerts")
    parser.add_argument("--serve", action="store_true", help="show them on a page, with metrics, at --host and --port")
    add_server_arguments(parser)


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Count until SIGINT or SIGTERM (130, 143), or until all of it were recordings that have ended (0, or 1)."""
    # Here, so that --help loads no array library.
    from engine.watch.config import load_config
    from engine.watch.watch import Watch

    refuse_alone(options, dict.fromkeys(SERVER_OPTIONS, ("serve",)))
    config = load_config(options.cameras)
    _check(config)
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(make_counter(options, factory, options.steps)))
        followers = _followers(options, config, stack)
        stations = [
            stack.enter_context(_station(camera, config, followers, options.quiet)) for camera in config.cameras
        ]
        if not options.quiet:
            say(f"watching {', '.join(camera.name for camera in config.cameras)}")
        whole = Watch(counter, stations).run()
    return Status.OK if whole else Status.FAILED


def _check(config: WatchConfig) -> None:
    """Refuse at once what no waiting for a camera would mend."""
    from engine.stream.video import load_av

    if any(isinstance(camera.source, int) or "://" in camera.source for camera in config.cameras):
        load_av()
    if config.folder is not None:
        try:
            config.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {config.folder}: {error.strerror}; name another") from error


_Follow = Callable[["Camera"], "Follower"]


def _followers(options: argparse.Namespace, config: WatchConfig, stack: contextlib.ExitStack) -> list[_Follow]:
    """What makes the followers of a camera: of the page, and of the broker, as far as they are wanted."""
    made: list[_Follow] = []
    if options.serve:
        from engine.cli.live_page import open_page

        titles = {camera.name: camera.title for camera in config.cameras}
        pages = stack.enter_context(open_page(server_settings(options), titles, "the cameras"))
        made.append(lambda camera: pages[camera.name])
    if config.mqtt is not None:
        with needs_extra(MQTT_EXTRA):
            from engine.watch.mqtt import MqttClient, MqttFollower
        client = stack.enter_context(MqttClient(config.mqtt, config.cameras))
        made.append(lambda camera: MqttFollower(client, camera))
    return made


def _station(camera: Camera, config: WatchConfig, followers: list[_Follow], quiet: bool) -> Station:
    from engine.watch.station import Station

    def show(text: str) -> None:
        if not quiet:
            print(printable(text), flush=True)

    return Station(camera, config.folder, [follow(camera) for follow in followers], tell=say, tell_minute=show)
