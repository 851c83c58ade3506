"""The container engine, through its own command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any

#: An id that no image knows.
ANYBODY = "424242:424242"
#: The least that a service gets anywhere: nobody's user, a root file system it cannot write, no
#: capabilities, and no shell.
CONFINED = (
    "--user", ANYBODY, "--read-only", "--tmpfs", "/tmp",
    "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--volume", "/dev/null:/bin/sh:ro", "--volume", "/dev/null:/bin/bash:ro",
)  # fmt: skip


class EngineError(RuntimeError):
    """What the engine said when it refused."""


def docker(*arguments: str) -> str:
    """What `docker ARGUMENTS` prints. Raises EngineError."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"docker {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def no_engine() -> str:
    """Why nothing can be run here; empty if it can."""
    if shutil.which("docker") is None:
        return "no container engine: docker is not on PATH"
    try:
        docker("version")
        system = docker("info", "--format", "{{.OperatingSystem}}")
    except EngineError as error:
        return f"no container engine answers ({error})"
    if "Docker Desktop" in system:
        return "the engine's host network is not this machine's"
    return ""


def have(image: str) -> None:
    """See that the engine holds an image of somebody else's. Raises EngineError."""
    try:
        docker("image", "inspect", image)
    except EngineError:
        docker("pull", "--quiet", image)


def config(image: str) -> dict[str, Any]:
    """The image's configuration: user, environment, labels and so on."""
    return json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))


def history(image: str) -> list[tuple[int, str]]:
    """Bytes and instruction of each step, the newest first."""
    shown = docker(
        "history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image
    )
    steps = [line.partition(" ") for line in shown.splitlines()]
    return [(int(size), instruction) for size, _, instruction in steps]


def ask(image: str, program: str) -> Any:
    """What a Python program that runs inside the image prints as JSON."""
    said = docker(
        "run", "--rm", "--network", "none", *CONFINED, "--entrypoint", "python", image,
        "-c", program,
    )  # fmt: skip
    return json.loads(said)


class Container:
    """A running container on this machine's network."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def said(self) -> str:
        """Its log so far."""
        done = subprocess.run(
            ["docker", "logs", self.identity],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def ready(self) -> bool:
        """Whether /readyz says so. Raises AssertionError with the log when it has ended."""
        if not self._inspect("{{.State.Running}}") == "true":
            raise AssertionError(f"it ended: {self.said()}")
        ports = re.findall(r" listens on port (\d+)$", self.said(), re.MULTILINE)
        if not ports:
            return False
        connection = HTTPConnection("127.0.0.1", int(ports[-1]), timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, grace_s: int = 10) -> tuple[int, float]:
        """`docker stop`; the exit status, and the seconds until it came."""
        began = time.monotonic()
        docker("stop", "--time", str(grace_s), self.identity)
        return int(self._inspect("{{.State.ExitCode}}")), time.monotonic() - began

    def port(self, inside: int) -> int:
        """Where on this machine the published port is."""
        published = docker("port", self.identity, f"{inside}/tcp").splitlines()[0]
        return int(published.rpartition(":")[2])

    def _inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.identity).strip()


@contextmanager
def container(*arguments: str) -> Generator[Container]:
    """`docker run ARGUMENTS` in the background; removed in the end."""
    identity = docker("run", "--detach", *arguments).strip()
    try:
        yield Container(identity)
    finally:
        docker("rm", "--force", "--volumes", identity)
