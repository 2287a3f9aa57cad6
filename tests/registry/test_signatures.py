"""Whose signature it is, and over what: as pure functions of bytes, with keys of every kind."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gridapps.oci import signatures
from gridapps.oci.documents import Invalid
from gridapps.oci.signatures import UnusableKeys
from tests.registry import signing
from tests.registry.signing import payload, sign

RELEASE = "sha256:" + "1" * 64
GOOD = payload(RELEASE)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "RSA", "Ed25519"],
)
def test_the_key_that_signed_is_named(tmp_path: Path, key: signing.Private) -> None:
    signing.write_public(key, tmp_path / "release.pub")
    signing.write_public(ec.generate_private_key(ec.SECP256R1()), tmp_path / "another.pem")
    (tmp_path / "README").write_text("no key")
    keys = signatures.load_keys(str(tmp_path))
    assert sorted(keys) == ["another", "release"]
    signed = sign(key, GOOD)
    assert signatures.signing_key(GOOD, signed, keys=keys) == "release"
    assert signatures.signing_key(GOOD + b" ", signed, keys=keys) == ""
    assert signatures.signing_key(GOOD, signed[4:], keys=keys) == ""
    assert signatures.signing_key(GOOD, "", keys=keys) == ""
    assert sorted(signatures.load_keys(str(tmp_path / "release.pub"))) == ["release"]
    (tmp_path / "release.pub").unlink()
    assert signatures.signing_key(GOOD, signed, keys=signatures.load_keys(str(tmp_path))) == ""
    assert signatures.signing_key(GOOD, signed, keys=signatures.load_keys("")) == ""


def test_what_cosign_writes_is_taken_whatever_name_the_image_had() -> None:
    signatures.require_signature_of(RELEASE, GOOD, "AAAA")
    elsewhere = payload(RELEASE, identity={"docker-reference": "grid.example/other-app:v9"})
    signatures.require_signature_of(RELEASE, elsewhere, "AAAA")
    signatures.require_signature_of(RELEASE, payload(RELEASE, identity={}), "AAAA")


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
        signatures.require_signature_of(RELEASE, content, "AAAA")


@pytest.mark.parametrize("signed", ["not base64!", "AAA", "AA==\n", "\u00e4", "A" * 5000])
def test_garbage_for_a_signature(signed: str) -> None:
    with pytest.raises(Invalid, match="not base64"):
        signatures.require_signature_of(RELEASE, GOOD, signed)
    assert signatures.signing_key(GOOD, signed, keys={"any": lambda *_: None}) == ""


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
