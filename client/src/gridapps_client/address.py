"""The canonical form of an instance's address."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from gridapps_client.errors import GridAppsError

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def canonical(url: str) -> str:
    """`https://host[:port]` without a path. Plain http is accepted for loopback addresses only, because it
    would expose the token.
    """
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        port = parts.port
    except ValueError:
        raise GridAppsError(f"{url!r} has a port that is not a number from 1 to 65535.") from None
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host or parts.username is not None:
        raise GridAppsError(f"{url!r} is not the address of an instance; write https://host:port.")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise GridAppsError(f"{url!r} is not encrypted; use https://.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise GridAppsError(f"{url!r} has a path; write only https://host:port.")
    shown = f"[{host}]" if ":" in host else host
    standard = port is None or (parts.scheme, port) in (("https", 443), ("http", 80))
    return f"{parts.scheme}://{shown}" + ("" if standard else f":{port}")


def authority(url: str) -> str:
    """`host:port` of a canonical address, always with the port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def segment(value: object) -> str:
    """`value` as one segment of a URL's path."""
    text = str(value)
    if text in ("", ".", ".."):
        raise GridAppsError(f"{text!r} cannot be a key.")
    return quote(text, safe="")
