"""``crowd watch``: several cameras in one process, counted in turn."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.extras import needs_extra
from engine.cli.needed_options import refuse_alone
from engine.cli.serve import SERVER_OPTIONS, add_server_arguments, server_settings
from engine.cli.terminal import Status, printable, say
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.watch.config import WatchConfig
    from engine.watch.station import Follower

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
    from engine.watch.station import Station
    from engine.watch.watch import Watch

    def show(text: str) -> None:
        if not options.quiet:
            print(printable(text), flush=True)

    refuse_alone(options, dict.fromkeys(SERVER_OPTIONS, ("serve",)))
    config = load_config(options.cameras)
    _check(config)
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(make_counter(options, factory, options.steps)))
        followers = _followers(options, config, stack)
        stations = [
            stack.enter_context(Station(camera, config.folder, followers[camera.name], say, show))
            for camera in config.cameras
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


def _followers(
    options: argparse.Namespace, config: WatchConfig, stack: contextlib.ExitStack
) -> dict[str, list[Follower]]:
    """What follows each camera, by its name: the page, and the broker, as far as they are wanted."""
    followers: dict[str, list[Follower]] = {camera.name: [] for camera in config.cameras}
    if options.serve:
        from engine.cli.live_page import open_page

        titles = {camera.name: camera.title for camera in config.cameras}
        for name, page in stack.enter_context(open_page(server_settings(options), titles, "the cameras")).items():
            followers[name].append(page)
    if config.mqtt is not None:
        with needs_extra("mqtt"):
            from engine.watch.mqtt import MqttClient, MqttFollower
        client = stack.enter_context(MqttClient(config.mqtt, config.cameras))
        for camera in config.cameras:
            followers[camera.name].append(MqttFollower(client, camera))
    return followers
