"""Addresses of instances, as users type them."""

import pytest
from gridapps_client import GridAppsError
from gridapps_client.address import authority, canonical, segment


@pytest.mark.parametrize(
    ("typed", "meant", "registry"),
    [
        ("grid.example.org", "https://grid.example.org", "grid.example.org:443"),
        ("https://Grid.Example.org:443/", "https://grid.example.org", "grid.example.org:443"),
        (" https://10.99.0.1:5443 ", "https://10.99.0.1:5443", "10.99.0.1:5443"),
        ("https://[::1]:5443", "https://[::1]:5443", "[::1]:5443"),
        ("http://localhost:8000", "http://localhost:8000", "localhost:8000"),
    ],
)
def test_canonical(typed: str, meant: str, registry: str) -> None:
    assert canonical(typed) == meant
    assert authority(meant) == registry


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("http://grid.example.org", "not encrypted"),
        ("http://127.0.0.1.example.org", "not encrypted"),
        ("ftp://x", "not the address"),
        ("https://", "not the address"),
        ("https://user:pw@host", "not the address"),
        ("https://host/api/v3", "has a path"),
        ("https://host:99999", "not a number"),
        ("https://host:x", "not a number"),
    ],
)
def test_refused(typed: str, why: str) -> None:
    with pytest.raises(GridAppsError, match=why):
        canonical(typed)


def test_segments() -> None:
    assert segment("a/../b?c#d") == "a%2F..%2Fb%3Fc%23d"
    for text in ("", ".", ".."):
        with pytest.raises(GridAppsError):
            segment(text)
