"""Whose signature it is, and over what: as pure functions of bytes, with keys of every kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gridapps.oci import signatures
from gridapps.oci.documents import Invalid
from gridapps.oci.signatures import Signed, UnusableKeys, Verify
from tests.registry import signing
from tests.registry.signing import payload, sign

RELEASE = "sha256:" + "1" * 64
GOOD = payload(RELEASE)


P256, P384, P521 = (ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))


def signing_key(content: bytes, signed: str, *, keys: Mapping[str, Verify]) -> str:
    return signatures.signing_key(Signed(content, signed), keys=keys)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (P256, None),
        (P384, hashes.SHA384()),  # as cosign 3 does
        (P384, hashes.SHA256()),  # as earlier versions did
        (P521, hashes.SHA512()),
        (P521, hashes.SHA256()),
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), None),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["P-256", "P-384", "P-384-256", "P-521", "P-521-256", "RSA", "Ed25519"],
)
def test_the_key_that_signed_is_named(
    tmp_path: Path, key: signing.Private, algorithm: hashes.HashAlgorithm | None
) -> None:
    signing.write_public(key, tmp_path / "release.pub")
    signing.write_public(ec.generate_private_key(ec.SECP256R1()), tmp_path / "another.pem")
    (tmp_path / "README").write_text("no key")
    keys = signatures.load_keys(str(tmp_path))
    assert sorted(keys) == ["another", "release"]
    signed = sign(key, GOOD, algorithm)
    assert signing_key(GOOD, signed, keys=keys) == "release"
    assert signing_key(GOOD + b" ", signed, keys=keys) == ""
    assert signing_key(GOOD, signed[4:], keys=keys) == ""
    assert signing_key(GOOD, "", keys=keys) == ""
    assert sorted(signatures.load_keys(str(tmp_path / "release.pub"))) == ["release"]
    (tmp_path / "release.pub").unlink()
    assert signing_key(GOOD, signed, keys=signatures.load_keys(str(tmp_path))) == ""
    assert signing_key(GOOD, signed, keys=signatures.load_keys("")) == ""


def test_a_curve_signs_with_its_own_hashes_only(tmp_path: Path) -> None:
    for key, algorithm in ((P256, hashes.SHA512()), (P384, hashes.SHA512()), (P521, hashes.SHA1())):
        signing.write_public(key, tmp_path / "release.pub")
        keys = signatures.load_keys(str(tmp_path))
        assert signing_key(GOOD, sign(key, GOOD, algorithm), keys=keys) == ""


def test_what_cosign_writes_is_taken_whatever_name_the_image_had() -> None:
    signatures.signed_payload(GOOD, "AAAA", subject=RELEASE)
    elsewhere = payload(RELEASE, identity={"docker-reference": "grid.example/other-app:v9"})
    signatures.signed_payload(elsewhere, "AAAA", subject=RELEASE)
    signatures.signed_payload(payload(RELEASE, identity={}), "AAAA", subject=RELEASE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (payload("sha256:" + "2" * 64), "is of 'sha256:2222"),
        (payload(RELEASE, image={"Docker-manifest-digest": RELEASE}), "'docker-manifest-digest' is meant"),
        (payload(RELEASE, image={}), "is of 'None'"),
        (payload(RELEASE, image=[RELEASE]), "value other than an object as 'image'"),
        (payload(RELEASE, image={"docker-manifest-digest": {"a": RELEASE}}), "is of"),
        (payload(RELEASE, type="atomic container signature"), "not of the type 'cosign container image"),
        (payload(RELEASE, Type="cosign container image signature"), "only 'type' is meant"),
        (GOOD[:-1] + b', "critical": {}}', "a name twice"),
        (GOOD[:-1] + b', "Critical": {}}', "only 'critical' is meant"),
        (GOOD[:-1], "not valid JSON"),
        (b"[" * 10_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff" + GOOD, "not valid JSON"),
        (GOOD + b" " * signatures.MAX_PAYLOAD, "larger than"),
    ],
)  # fmt: skip
def test_payloads_that_say_something_else(content: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        signatures.signed_payload(content, "AAAA", subject=RELEASE)


@pytest.mark.parametrize("signed", ["not base64!", "AAA", "AA==\n", "\u00e4", "A" * 5000])
def test_garbage_for_a_signature(signed: str) -> None:
    with pytest.raises(Invalid, match="not base64"):
        signatures.signed_payload(GOOD, signed, subject=RELEASE)
    assert signing_key(GOOD, signed, keys={"any": lambda *_: None}) == ""


def weak_rsa() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (weak_rsa, "a.pub", "of an unsupported kind"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "a.pub", "of an unsupported kind"),
        (lambda: ec.generate_private_key(ec.SECP256R1()), "a key\n.pub", "an invalid name"),
        (None, "a.pub", "is not a public key in PEM"),
        (None, "a.txt", "contains no public key"),
    ],
)
def test_keys_that_cannot_be_used_are_said_to_be_so(tmp_path: Path, make: Any, name: str, words: str) -> None:
    if make:
        signing.write_public(make(), tmp_path / name)
    else:
        (tmp_path / name).write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(UnusableKeys, match=words):
        signatures.load_keys(str(tmp_path))


def test_two_keys_of_one_name_and_no_place(tmp_path: Path) -> None:
    for suffix in (".pub", ".pem"):
        signing.write_public(ed25519.Ed25519PrivateKey.generate(), tmp_path / f"release{suffix}")
    with pytest.raises(UnusableKeys, match="two keys of one name"):
        signatures.load_keys(str(tmp_path))
    with pytest.raises(UnusableKeys, match="cannot be read"):
        signatures.load_keys(str(tmp_path / "absent.pub"))
