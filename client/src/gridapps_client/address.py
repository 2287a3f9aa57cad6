"""The canonical form of an instance's address."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from gridapps_client.errors import GridAppsError

_APP_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def canonical(url: str) -> str:
    """`https://host[:port]` without a path. Plain http is accepted for loopback addresses only, because it
    would expose the token.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:
        raise GridAppsError(
            f"{url!r} is not the address of an instance; write https://host:port.", code="usage"
        ) from None
    try:
        port = parts.port
    except ValueError:
        raise GridAppsError(
            f"{url!r} has a port that is not a number from 1 to 65535.", code="usage"
        ) from None
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host or parts.username is not None:
        raise GridAppsError(
            f"{url!r} is not the address of an instance; write https://host:port.", code="usage"
        )
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise GridAppsError(f"{url!r} is not encrypted; use https://.", code="usage")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise GridAppsError(f"{url!r} has a path; write only https://host:port.", code="usage")
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
    if text in ("", ".", "..") or "\0" in text:
        raise GridAppsError(f"{text!r} cannot be a key.", code="usage")
    return quoted(text, safe="")


def quoted(text: str, *, safe: str) -> str:
    """`text` percent-encoded for the path of a URL; `safe`: characters that stay."""
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:
        raise GridAppsError(f"{text!r} contains half a character (a lone surrogate).", code="usage") from None


def app_segment(app_id: str) -> str:
    """An app-id as a segment of a URL's path. Raises GridAppsError if it cannot be one."""
    if not _APP_ID.fullmatch(str(app_id)):
        raise GridAppsError(
            f"{app_id!r} is not an app-id: 1 to 63 of a-z, 0-9 and -, not beginning or ending with -.",
            code="usage",
        )
    return app_id
