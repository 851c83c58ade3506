"""Opens listening sockets for HTTP."""

from __future__ import annotations

import errno
import os
import socket

from hourglass.errors import ConfigurationError

#: The errors that concern the address, not the port.
_BAD_HOST = (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT, errno.ENODEV)


def listen(host: str, port: int, *, port_option: str, backlog: int = 128) -> socket.socket:
    """A socket that listens on `host` and `port`. An empty host, like ::, is every address of this
    machine, IPv4 and IPv6.

    port_option: the option of the port, for the error message

    Raises ConfigurationError.
    """
    every = host in ("", "::")
    both = every and socket.has_dualstack_ipv6()
    is_v6 = both or ":" in host
    try:
        return socket.create_server(
            ("::" if both else host, port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            backlog=backlog,
            dualstack_ipv6=both,
        )
    except (OSError, UnicodeError) as error:
        code = error.errno if isinstance(error, OSError) else None
        # An unknown name has a negative error code, from getaddrinfo.
        if code is None or code < 0 or code in _BAD_HOST:
            raise ConfigurationError(
                f"cannot listen on {host!r}, which is not an address of this machine: set "
                "HOURGLASS_HTTP_HOST to one, without brackets and port, or leave it empty"
            ) from None
        # The message of the error itself would repeat the address.
        reason = os.strerror(code)
        raise ConfigurationError(
            f"cannot listen on {host or 'any address'}:{port} ({reason}): "
            f"choose another {port_option}"
        ) from None
