"""Rules for targets of hooks: the form of the URL, and the addresses that may be connected to."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Only what RFC 3986 allows in each part, so that all parsers of the URL agree about the host.
TARGET = (
    r"^https?://([A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)?$"
)
LONGEST = 1000
# Global unicast addresses are allowed, except IANA's special purposes. Python's own list of these changes
# from release to release.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_UNICAST_6 = IPv6Network("2000::/3")
# Including Teredo and 6to4: the translating gateway decides where such an address leads.
_NOT_PUBLIC_6 = tuple(
    IPv6Network(each)
    for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
# Only the well-known prefix has its IPv4 address in the last 32 bits (RFC 6052). In 64:ff9b:1::/48 and in
# local prefixes it may be anywhere (RFC 8215): they are refused like other addresses that are not public.
_NAT64 = IPv6Network("64:ff9b::/96")


class BadTarget(ValueError):
    """The URL cannot be a target; the sentence says why."""


@dataclass(frozen=True)
class Rules:
    """What the operator allows beyond public addresses and TLS."""

    networks: tuple[Network, ...] = ()
    http: bool = False

    def public(self, address: str) -> bool:
        """Whether the address is public, so that errors about it reveal nothing of the operator's network."""
        found = _plain(address)
        return found is not None and _public(found)

    def allow(self, address: str) -> bool:
        """Whether a hook may connect to this address."""
        found = _plain(address)
        if found is None:
            return False
        return _public(found) or any(
            found in network for network in self.networks if network.version == found.version
        )


def site(target: str, rules: Rules) -> str:
    """Scheme, host and port of a URL that may be a target. Raises BadTarget."""
    if len(target) > LONGEST or not re.fullmatch(TARGET, target):
        raise BadTarget(
            "A target is a URL such as https://example.org/hook, without a user and a fragment, with encoded "
            f"non-ASCII characters, and of at most {LONGEST} characters."
        )
    try:
        url = urlsplit(target)
    except ValueError:
        raise BadTarget("The text in brackets must be an IPv6 address.") from None
    host = (url.hostname or "").rstrip(".")
    if url.scheme == "http" and not rules.http:
        raise BadTarget("This instance delivers over https only.")
    port = _port(target) or (443 if url.scheme == "https" else 80)
    _check_host(host, rules)
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _port(target: str) -> int | None:
    try:
        port = urlsplit(target).port
    except ValueError:
        port = 0
    if port is not None and port not in {80, 443} and not 1024 <= port <= 65535:
        # Services on other ports below are not web servers, and might interpret the request.
        raise BadTarget("The port must be 80, 443, or one from 1024 to 65535.")
    return port


def _check_host(host: str, rules: Rules) -> None:
    """Refuse what can be refused without resolving the name. Its addresses are checked at delivery."""
    last = host.rpartition(".")[2]
    if ":" not in host and not re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", last):
        if host == "localhost" or host.endswith(".localhost"):
            host = "127.0.0.1"
        elif len(host) > 253 or any(len(label) > 63 for label in host.split(".")):
            raise BadTarget("The host's name is too long.")
        else:
            return
    # Some parsers read 0177.1 and 2130706433 as addresses, in different ways.
    if _plain(host) is None:
        raise BadTarget(f"{host} is neither a name nor a complete address.")
    if not rules.allow(host):
        raise BadTarget("Hooks cannot lead to private addresses, or to others that are not public.")


def _plain(address: str) -> Address | None:
    """The address itself, or the IPv4 address that an IPv6 address wraps."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.scope_id:
            return None
        if found.ipv4_mapped:
            return found.ipv4_mapped
        if found in _NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def _public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)
