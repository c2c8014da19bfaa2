"""Which addresses are refused, by the lists of the authorities that give them out."""

from __future__ import annotations

import socket

import pytest

from engine.jobs.networks import is_public, public_socket

PUBLIC = [
    *("8.8.8.8", "93.184.215.14", "192.0.1.1", "192.88.98.1", "198.17.255.255", "198.20.0.1", "223.255.255.255"),
    *("2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:200::1", "2001:4860:4860::8888", "3ffe::1"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7"),
]
# RFC 6890 and its registries, and the ways to write IPv4 in IPv6.
PRIVATE = [
    *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    *("2002:7f00:1::", "2002:a00:1::", "2001:0:808:808::80ff:fffe", "not an address", ""),
    # What some versions of Python do not know.
    *("192.0.0.9", "192.0.0.10", "192.0.0.255", "192.88.99.1", "198.19.255.255", "255.255.255.254"),
    *("fec0::1", "feff::1", "4000::1", "5f00::1", "1fff::1", "100::1", "100:0:0:1::1", "64:ff9b:1::a00:1", "::2"),
    *("2001:1::1", "2001:1ff:ffff::1", "2001:db8:ffff::1", "3fff::1", "3fff:fff:ffff::1"),
    # IPv4 in IPv6, as it is no longer written, and as SIIT does.
    *("::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:10.0.0.1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not is_public(address)


def test_a_socket_is_made_for_public_addresses_alone() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    with pytest.raises(OSError, match=r"10\.0\.0\.1 is not in a public network; with --allow-private"):
        public_socket(False)((*info, ("10.0.0.1", 80)))
    for allowed, address in ((True, "10.0.0.1"), (False, "8.8.8.8")):
        with public_socket(allowed)((*info, (address, 80))) as made:
            assert made.family == socket.AF_INET
