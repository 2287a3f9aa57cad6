"""Targets of hooks: a table of known request forgeries."""

from ipaddress import ip_network

import pytest

from gridapps.hooks.targets import BadTarget, Rules, site

PUBLIC = Rules()
PRIVATE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "64:ff9b:1:808:8:800::", "64:ff9b:1::808:808", "64:ff9b:1:a00:0:100:808:808",
    "64:ff9b::a00:1", "2001::1", "2001:20::1", "2002:808:808::1", "::8.8.8.8", "::ffff:0:8.8.8.8", "feff::1",
    "2620:4f:8000::1", "3fff::1", "4000::1", "192.31.196.1", "2002:7f00:1::1", "2001:0:1::1", "100::1",
    "5f00::1", "no address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not PUBLIC.allow(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert PUBLIC.allow(address)


def test_a_setting_opens_networks_and_no_others() -> None:
    rules = Rules(networks=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")))
    assert [rules.allow(each) for each in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5")] == [True] * 3
    assert not any(rules.allow(each) for each in ("10.2.0.1", "127.0.0.1", "fd00:2::1"))


@pytest.mark.parametrize(
    "target",
    [
        "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "https://", "https:///x",
        "//example.org",
        "https://user:word@example.org/", "https://user@example.org/", "https://example.org#x",
        "https://exa mple.org/", "https://example.org\\@127.0.0.1/", "https://example.org/\n",
        "https://ex\u00e4mple.org/",
        "https://example.org:22/", "https://example.org:0/", "https://example.org:99999/", "https://[::1/",
        "https://[Dbcc]/", "https://[1.2.3.4]/", "https://[v1.x]/",
        "https://127.0.0.1/", "https://[::1]:8443/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest",
        "https://0/", "https://127.1/", "https://2130706433/", "https://0177.0.0.1/", "https://0x7f.0.0.1/",
        "https://0x7f000001/", "https://localhost/", "https://x.localhost:8443/",
        "https://example.org./..." + "x" * 1000,
        "https://" + "a." * 150 + "org/", "https://" + "a" * 64 + ".org/",
    ],
)  # fmt: skip
def test_urls_that_cannot_be_targets(target: str) -> None:
    with pytest.raises(BadTarget):
        site(target, PUBLIC)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://example.org", "https://example.org:443"),
        ("https://Example.ORG:8443/a/b?c=d%20e", "https://example.org:8443"),
        ("https://[2606:2800:21f::1]/x", "https://[2606:2800:21f::1]:443"),
        ("https://93.184.215.14:80/", "https://93.184.215.14:80"),
    ],
)
def test_targets_and_their_sites(target: str, expected: str) -> None:
    assert site(target, PUBLIC) == expected


def test_http_is_a_setting() -> None:
    assert site("http://example.org/x", Rules(http=True)) == "http://example.org:80"
