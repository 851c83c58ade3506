"""Where HTTP is listened for: both address families, and an address or port that cannot be had."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from hourglass.errors import ConfigurationError
from hourglass.service.probes import listen

OPTION = "--http-port"
only_with_ipv6 = pytest.mark.skipif(
    not socket.has_dualstack_ipv6(), reason="this machine has no IPv6"
)


def reached(host: str, port: int) -> bool:
    with closing(socket.create_connection((host, port), timeout=10)):
        return True


@only_with_ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_no_address_is_every_one_of_both_families(host: str) -> None:
    with listen(host, 0, port_option=OPTION) as listener:
        port = listener.getsockname()[1]

        assert reached("127.0.0.1", port)
        assert reached("::1", port)


def test_without_ipv6_no_address_is_every_one_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("", 0, port_option=OPTION) as listener:
        assert listener.family == socket.AF_INET
        assert reached("127.0.0.1", listener.getsockname()[1])


@only_with_ipv6
def test_an_address_is_itself_alone() -> None:
    with listen("::1", 0, port_option=OPTION) as listener:
        port = listener.getsockname()[1]

        assert reached("::1", port)
        with pytest.raises(ConnectionRefusedError):
            reached("127.0.0.1", port)


@pytest.mark.parametrize(
    "host",
    ["[::]", "no-host.invalid", "127.0.0.1:8080", "192.0.2.1", "2001:db8::1", "a" * 64, "a..b"],
)
def test_an_address_that_cannot_be_listened_on_is_named_and_not_the_port(host: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        listen(host, 0, port_option=OPTION)

    assert repr(host) in str(refused.value)
    assert "HOURGLASS_HTTP_HOST" in str(refused.value)
    assert OPTION not in str(refused.value)


def test_a_port_in_use_is_named_with_the_option_that_changes_it() -> None:
    with listen("127.0.0.1", 0, port_option=OPTION) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} .*another {OPTION}"):
            listen("127.0.0.1", port, port_option=OPTION)
