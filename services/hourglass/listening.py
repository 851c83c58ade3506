"""The sockets that HTTP is served from."""

from __future__ import annotations

import errno
import os
import socket

from hourglass.errors import Misconfigured

#: Of the address, whatever the port.
_BAD_HOST = (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT, errno.ENODEV)


def listen(host: str, port: int, *, port_option: str, backlog: int = 128) -> socket.socket:
    """Bound to `host` and listening; no host is every address of this machine, IPv4 and IPv6, as
    :: is. Raises Misconfigured, which names the option to change."""
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
        # A name that is not known has a negative code, of getaddrinfo.
        if code is None or code < 0 or code in _BAD_HOST:
            raise Misconfigured(
                f"cannot listen on {host!r}, which is no address of this machine: give an IP "
                "address of it in HOURGLASS_HTTP_HOST, without brackets and port, or leave it empty"
            ) from None
        # The error's own words repeat the address.
        reason = os.strerror(code)
        raise Misconfigured(
            f"cannot listen on {host or 'any address'}:{port} ({reason}): "
            f"choose another {port_option}"
        ) from None
