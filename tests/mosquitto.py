"""A real MQTT broker, Mosquitto."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import until

# Debian puts it where only root looks.
MOSQUITTO = shutil.which(
    "mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
)
USER, PASSWORD = "crowd", "topsecret"


class Broker:
    """Mosquitto on a port of its own, which may be stopped and started again; it forgets everything then."""

    def __init__(self, folder: Path, tls: bool = False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config, passwords = folder / "mosquitto.conf", folder / "passwords"
        passwords.write_text(f"{USER}:{PASSWORD}\n")
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
        )
        if tls:
            certificate, key = self.encrypt(folder)
            with open(self._config, "a") as file:
                file.write(f"certfile {certificate}\nkeyfile {key}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def encrypt(folder: Path) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, signed by itself, and its key."""
        certificate, key = folder / "cert.pem", folder / "key.pem"
        names = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
        subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
        return certificate, key

    def start(self) -> None:
        assert MOSQUITTO
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        until(self._answers)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def listening(broker: Broker) -> Iterator[dict[str, str]]:
    """The newest message of each topic, from another client."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    messages: dict[str, str] = {}
    subscribed = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(USER, PASSWORD)
    client.on_connect = lambda *_: client.subscribe("#", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: messages.update({message.topic: message.payload.decode()})
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert subscribed.wait(20)
    yield messages
    client.disconnect()
    client.loop_stop()
