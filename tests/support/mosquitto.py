"""Debian's mosquitto as a broker of a test's own, and devices that publish to it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.processes import ProcessGroup
from tests.support.waiting import PATIENCE_S, wait_until

#: Nothing is dropped, however much waits, and a restart forgets nothing.
CONFIGURATION = """\
persistence true
persistence_location {folder}/
persistence_file mosquitto.db
max_queued_messages 0
"""


def program() -> str:
    """The path of mosquitto; skips the test if it is not installed."""
    found = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if found is None:
        pytest.skip("mosquitto is not on PATH (Debian: mosquitto)")
    return found


class Mosquitto:
    """A broker at a port that stays the same when it is restarted."""

    def __init__(self, guard: ProcessGroup, configuration: str, listener: str) -> None:
        self._program = program()
        self._guard = guard
        self.port, _ = free_ports(1)[0]
        folder = guard.directory
        self._file = folder / "mosquitto.conf"
        self._file.write_text(
            "user root\n"
            + CONFIGURATION.format(folder=folder)
            + f"{configuration}\nlistener {self.port} 127.0.0.1\n{listener}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "mosquitto.log"

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", self._file],
                stdout=log,
                stderr=log,
                process_group=self._guard.group,
            )
        wait_until(self._listens, message="mosquitto does not listen")

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """SIGTERM: it writes its sessions and queues to its file."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it forgets its sessions and queues, or goes back to what it wrote before."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE_S)


@contextmanager
def mosquitto(
    configuration: str = "", listener: str = "allow_anonymous true"
) -> Generator[Mosquitto]:
    """`configuration` is of the broker, `listener` of its port. Skips the test without one."""
    program()
    with ProcessGroup("hourglass-mosquitto-") as guard:
        broker = Mosquitto(guard, configuration, listener)
        broker.start()
        try:
            yield broker
        finally:
            broker.resume()
            broker.kill()


class Publisher:
    """Devices at the broker; what it publishes with QoS 1 reaches the broker in the end."""

    def __init__(self, port: int, *, ca_file: Path | None = None, **login: str) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(1, 1)
        if ca_file is not None:
            self._client.tls_set(str(ca_file))
        if login:
            self._client.username_pw_set(login["user"], login["password"])
        host = "localhost" if ca_file else "127.0.0.1"
        wait_until(lambda: self._connected(host, port), message="the broker does not answer")
        self._sent = 0
        self._taken = 0
        self._client.on_publish = self._on_publish
        self._client.loop_start()

    def _connected(self, host: str, port: int) -> bool:
        with suppress(OSError):
            self._client.connect(host, port)
            return True
        return False

    def publish(self, topic: str, payload: Any, *, qos: int = 1, retain: bool = False) -> None:
        self._sent += 1
        self._client.publish(topic, str(payload), qos=qos, retain=retain)

    def _on_publish(self, *_: Any) -> None:
        self._taken += 1

    def publish_all(self, messages: Iterable[tuple[str, Any]]) -> None:
        for number, (topic, payload) in enumerate(messages, 1):
            self.publish(topic, payload)
            if number % 5_000 == 0:
                self.flush()
        self.flush()

    def flush(self) -> None:
        """Until the broker has everything."""
        wait_until(
            lambda: self._taken == self._sent,
            message="the broker does not take what is published",
        )

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def publishing(port: int, **options: Any) -> Generator[Publisher]:
    publisher = Publisher(port, **options)
    try:
        yield publisher
    finally:
        publisher.close()
