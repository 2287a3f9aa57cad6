"""The instance's authority: what it makes, keeps, renews, and refuses to guess."""

import shutil
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from gridapps.pki import authority
from gridapps.pki.authority import Authority, BrokenAuthority


def make(directory: Path, host: str = "grid.example") -> Authority:
    return Authority.create_or_load(directory, host=host)


def server(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "server.crt").read_bytes())


def token(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "token.crt").read_bytes())


def test_what_was_made_is_loaded_again(tmp_path: Path) -> None:
    first, before = make(tmp_path), {path: path.read_bytes() for path in tmp_path.iterdir()}
    second = make(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert first.ca == second.ca


def test_private_keys_are_for_the_owner_alone(tmp_path: Path) -> None:
    make(tmp_path)
    keys = list(tmp_path.glob("*.key"))
    assert len(keys) == 3
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_two_instances_have_nothing_in_common(tmp_path: Path) -> None:
    one, other = make(tmp_path / "1"), make(tmp_path / "2")
    assert one.ca.subject != other.ca.subject
    assert not other.has_issued(server(tmp_path / "1"))
    assert one.has_issued(server(tmp_path / "1"))


@pytest.mark.parametrize("host", ["grid.example", "10.1.2.3", "fd00::1", "a" * 63 + "." + "b" * 63])
def test_the_server_is_named_and_a_client_believes_it(tmp_path: Path, host: str) -> None:
    make(tmp_path, host)
    names = server(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    named = {str(name.value) for name in names}
    assert named == {host, "localhost", "127.0.0.1", "::1"}
    _shake_hands(tmp_path, host)


def test_another_host_gets_another_certificate_and_the_authority_stays(tmp_path: Path) -> None:
    first, before = make(tmp_path, "one.example"), server(tmp_path)
    second = make(tmp_path, "two.example")
    assert second.ca == first.ca
    assert server(tmp_path) != before
    _shake_hands(tmp_path, "two.example")


def test_what_is_about_to_expire_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(authority, "SERVER_DAYS", 100)
        patch.setattr(authority, "AUTHORITY_DAYS", 100)
        first, before, signed_before = make(tmp_path), server(tmp_path), token(tmp_path)
    second = make(tmp_path)
    assert server(tmp_path).not_valid_after_utc > before.not_valid_after_utc
    assert token(tmp_path) != signed_before
    assert second.ca == first.ca, "clients trust this one: it is never replaced by itself"
    assert server(tmp_path).not_valid_before_utc < datetime.now(UTC)


def test_a_start_that_was_killed_in_between_is_taken_up(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "server.crt").unlink()  # the key is written first
    make(tmp_path)
    _shake_hands(tmp_path, "grid.example")


@pytest.mark.parametrize("spoil", ["missing", "foreign", "garbage"])
def test_keys_that_do_not_belong_are_not_guessed_around(tmp_path: Path, spoil: str) -> None:
    make(tmp_path)
    key = tmp_path / "ca.key"
    if spoil == "missing":
        key.unlink()
    elif spoil == "foreign":
        shutil.copy(tmp_path / "server.key", key)
    else:
        key.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(BrokenAuthority, match="Restore"):
        make(tmp_path)


def _shake_hands(directory: Path, host: str) -> None:
    """A TLS handshake in memory, with everything that a strict client checks."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(directory / "server.crt", directory / "server.key")
    theirs = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = ours.wrap_bio(up, down, server_side=True)
    right = theirs.wrap_bio(down, up, server_hostname=host)
    for _ in range(4):
        for side in (right, left):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert right.version() == "TLSv1.3"
