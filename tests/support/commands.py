"""Commands that end by themselves, as the processes they are in use: forked from one process that
has them loaded (tests/support/fork_server.py), with an exit status and outputs of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from tests.support.fork_server import fork_server
from tests.support.waiting import PATIENCE_S


def run_bytes(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> CompletedProcess[bytes]:
    """`python -m module`, to its end.

    module: one of the fork server's
    environment: all that the process gets; by default what this one has
    """
    with TemporaryDirectory(prefix="hourglass-command-") as folder:
        output, log = Path(folder) / "output", Path(folder) / "log"
        process = fork_server().start(
            module,
            arguments,
            environment=os.environ if environment is None else environment,
            output=output,
            log=log,
            group=0,
            directory=cwd,
        )
        try:
            status = process.wait(PATIENCE_S)
        finally:
            process.kill()
        return CompletedProcess([module, *arguments], status, output.read_bytes(), log.read_bytes())


def run(module: str, *arguments: str, **environment: str) -> CompletedProcess[str]:
    """`python -m module`, to its end; `environment` is beside what this process has."""
    ended = run_bytes(module, *arguments, environment={**os.environ, **environment})
    return CompletedProcess(
        ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode()
    )


def run_hourglass(*arguments: str, **environment: str) -> CompletedProcess[str]:
    """The operator's command, to its end; `environment` is beside what this process has."""
    return run("hourglassctl", *arguments, **environment)
