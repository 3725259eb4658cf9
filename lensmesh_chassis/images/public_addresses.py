"""Test of IP addresses: which belong to the public internet, seen through every way of writing IPv4 in IPv6."""

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# RFC 6052: an IPv4 address in the last 32 bits, reachable through the network's NAT64. The prefix for local use
# (64:ff9b:1::/48, RFC 8215) leads wherever its network wants.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Younger than some of the Pythons that run this: documentation (RFC 9637), and the anycast of 6to4 relays (RFC 7526).
_NOT_PUBLIC = (ipaddress.ip_network("3fff::/20"), ipaddress.ip_network("192.88.99.0/24"))


def is_public(address: IPAddress) -> bool:
    """Tell whether an address can be reached from all of the internet: then it opens no door to this machine alone.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by what it carries. Every other one
    outside of 2000::/3 is not public: IPv4-compatible, IPv4-translated (SIIT), site-local, unique and link-local.
    """
    if address.is_multicast or any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global
    if (carried := _carried(address)) is not None:
        return all(is_public(one) for one in carried)
    return address in _GLOBAL_UNICAST and address.is_global


def _carried(address: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...] | None:
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return None
