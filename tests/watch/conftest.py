"""A broker for the tests of MQTT; they are skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto import MOSQUITTO, Broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    pytest.importorskip("paho.mqtt.client", reason="MQTT needs the extra 'mqtt'")
    if MOSQUITTO is None:
        pytest.skip("there is no Mosquitto")
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()
