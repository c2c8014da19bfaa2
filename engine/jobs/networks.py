"""Which networks pictures are read from: a manifest of strangers must not reach what lies behind a firewall."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

# In the message of the error of a connection that was refused here.
REFUSED = "is not in a public network"
# (family, type, protocol, canonical name, address), as of ``socket.getaddrinfo``.
AddressInfo = tuple[Any, ...]
SocketFactory = Callable[[AddressInfo], socket.socket]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# All of IPv6 that is given out for the Internet. Beyond it are forms of IPv4 addresses, former private networks, and
# what will be private networks of other kinds: ``is_global`` takes much of it for public.
_GIVEN_OUT = ipaddress.ip_network("2000::/3")
# Networks for special purposes, of which ``is_global`` knows some in some versions of Python only.
_SPECIAL = [
    *map(ipaddress.ip_network, ("0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4")),
    *map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet; not loopback, private, link-local, reserved, multicast.

    >>> [is_public(x) for x in ("93.184.216.34", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1")]
    [True, False, False, False, False]
    """
    try:
        # Without the zone of a link-local address.
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _inner(ip)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _GIVEN_OUT:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that ``ip`` leads to: mapped, 6to4, Teredo, and the well-known prefix of NAT64."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]


def public_socket(allow_private: bool) -> SocketFactory:
    """What makes the socket of each connection, once its name was resolved, also after a redirection.

    It looks at the address that is connected to, so that a name cannot be resolved once to be judged and again,
    otherwise, to be connected to. It raises OSError where that is not allowed.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if not allow_private and (family not in (socket.AF_INET, socket.AF_INET6) or not is_public(address[0])):
            text = f"{address[0]} {REFUSED}; with --allow-private (allow_private=True) it is read"
            raise PermissionError(errno.EACCES, text)
        return socket.socket(family, kind, protocol)

    return make
