"""Signatures in Sigstore bundles, as pure functions of bytes."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gridapps.oci import signatures, sigstore_bundles
from gridapps.oci.documents import Invalid
from gridapps.oci.sigstore_bundles import MAX_BUNDLE, signed_statement
from tests.registry.built import encoded
from tests.registry.signing import bundle, envelope, statement

RELEASE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
KEY = ec.generate_private_key(ec.SECP256R1())
# Written by cosign 3.1.1 with --tlog-upload=false --use-signing-config=false, and its public key.
COSIGNS_SUBJECT = "sha256:c0e5accb5f1340f5e2bb5fb13fc24a355d2c4f5a5fc6618cb3343e03d5541650"
COSIGNS_BUNDLE = (
    b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey'
    b'":{"hint":"qJQ0nfT8Fr9bsk2KjY7KsJJKt5yLTjAb0A67BNStNp8="}},"dsseEnvelope":{"payload":"eyJfdHlwZ'
    b"SI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiYzBl"
    b"NWFjY2I1ZjEzNDBmNWUyYmI1ZmIxM2ZjMjRhMzU1ZDJjNGY1YTVmYzY2MThjYjMzNDNlMDNkNTU0MTY1MCJ9LCJhbm5vdGF"
    b"0aW9ucyI6e319XSwicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIiwicHJlZG"
    b'ljYXRlIjp7fX0=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEQCIGqh+IJ8'
    b'vnVlwGdKDVijifVdWJxq1fc4dfBQcoVV9dCrAiAOAnT09k25szc0FjjdobqfJMWkF9bBXsXs06QL6QvB0g=="}]}}'
)
COSIGNS_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0/Uuz67bL4IAFoo+5kXSZwY6MdmQ
QuN+inJMGbn/54eP++5AaRwmJcMqCLuFtvc3J/J1hchAjz+zf6GCQHtSCQ==
-----END PUBLIC KEY-----
"""


def signed(**changes: Any) -> bytes:
    """A good bundle, in which the statement is changed."""
    return bundle(envelope(encoded(statement(RELEASE, **changes)), KEY))


def test_a_bundle_of_cosign_is_verified_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "release.pub").write_text(COSIGNS_KEY)
    keys = signatures.load_keys(str(tmp_path))
    found = signed_statement(COSIGNS_BUNDLE, subject=COSIGNS_SUBJECT)
    assert signatures.signing_key(found, keys=keys) == "release"
    with pytest.raises(Invalid, match=r"is of .*c0e5ac.*, not over sha256:1111"):
        signed_statement(COSIGNS_BUNDLE, subject=RELEASE)
    changed = json.loads(COSIGNS_BUNDLE)
    payload = base64.b64decode(changed["dsseEnvelope"]["payload"]).replace(
        COSIGNS_SUBJECT[7:].encode(), b"1" * 64
    )
    changed["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    found = signed_statement(encoded(changed), subject=RELEASE)
    assert signatures.signing_key(found, keys=keys) == "", "the signature is over something else"


def test_signature_is_over_the_encoding_of_the_envelope() -> None:
    # The example of the DSSE specification has another payload type, of 29 bytes.
    assert (
        sigstore_bundles.encoded(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    )
    content = encoded(statement(RELEASE))
    assert signed_statement(signed(), subject=RELEASE).message == sigstore_bundles.encoded(content)


GOOD = encoded(statement(RELEASE))
SUBJECT = statement(RELEASE)["subject"][0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (signed(subject=[]), "has 0 subjects"),
        (signed(subject=[SUBJECT, SUBJECT]), "has 2 subjects"),
        (signed(subject=SUBJECT), "other than a list as 'subject'"),
        (signed(subject=["x"]), "other than objects in 'subject'"),
        (signed(subject=[{"name": RELEASE}]), "is of {}, not over"),
        (signed(subject=[{"digest": {"sha256": OTHER[7:]}}]), "is of .*2222.*, not over"),
        (signed(subject=[{"digest": {"sha256": RELEASE}}]), "is of .*sha256:1111.*, not over"),
        (signed(subject=[{"digest": {"sha256": [RELEASE[7:]]}}]), "not over"),
        (signed(subject=[{"digest": {"sha256": RELEASE[7:], "sha512": "3" * 128}}]), "not over"),
        (signed(subject=[{"Digest": {"sha256": RELEASE[7:]}}]), "only 'digest' is meant"),
        (signed(subject=[{"digest": {"SHA256": RELEASE[7:]}}]), "not over"),
        (signed(predicateType="https://slsa.dev/provenance/v1"), "has the predicateType 'https://slsa"),
        (signed(predicateType=None), "has the predicateType 'None'"),
        (signed(_type="https://in-toto.io/Statement/v0.1"), "not of the type"),
        (signed(PredicateType="https://sigstore.dev/cosign/sign/v1"), "only 'predicateType' is meant"),
        (bundle(envelope(GOOD)), "has 0 signatures"),
        (bundle(envelope(GOOD, KEY, KEY)), "has 2 signatures"),
        (bundle(envelope(GOOD, signatures=[{"sig": 5}])), "is not a string"),
        (bundle(envelope(GOOD, signatures=[{"sig": "no base64!"}])), "is not base64"),
        (bundle(envelope(GOOD, signatures=[{"sig": "A" * 5000}])), "is not base64, or too long"),
        (bundle(envelope(GOOD, signatures={"sig": "AAAA"})), "other than a list as 'signatures'"),
        (bundle(envelope(GOOD, KEY, payload="no base64!")), "payload in the Sigstore bundle is not base64"),
        (bundle(envelope(GOOD, KEY, payload=5)), "payload in the Sigstore bundle is not base64"),
        (bundle(envelope(GOOD, KEY, payloadType="application/json")), "The payloadType"),
        (bundle(envelope(GOOD[:-1], KEY)), "statement in the Sigstore bundle is not valid JSON"),
        (bundle(envelope(b"[]", KEY)), "statement in the Sigstore bundle is not a JSON object"),
        (bundle(envelope(GOOD[:-1] + b', "subject": []}', KEY)), "a name twice"),
        (bundle({}), "The payloadType"),
        (bundle(envelope(GOOD, KEY), messageSignature={"signature": "AAAA"}), "the signature of a file"),
        (bundle(envelope(GOOD, KEY), DsseEnvelope={}), "only 'dsseEnvelope' is meant"),
        (bundle(envelope(GOOD, KEY), dsseEnvelope=[]), "other than an object as 'dsseEnvelope'"),
        (bundle(envelope(GOOD, KEY), mediaType="application/json"), "The mediaType in the Sigstore bundle"),
        (b"", "not valid JSON"),
        (b"{" * 10_000, "not valid JSON"),
        (bundle(envelope(GOOD, KEY)) + b" " * MAX_BUNDLE, "is larger than"),
    ],
)  # fmt: skip
def test_bundles_that_sign_something_else_or_nothing(content: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        signed_statement(content, subject=RELEASE)


def test_an_error_does_not_repeat_a_long_value() -> None:
    for content in (signed(predicateType="x" * 9000), signed(subject=[{"digest": {"sha256": "x" * 9000}}])):
        with pytest.raises(Invalid) as raised:
            signed_statement(content, subject=RELEASE)
        assert len(str(raised.value)) < 500


def test_certificates_and_logs_are_ignored() -> None:
    material = {"tlogEntries": [{"logIndex": "1"}], "certificate": {"rawBytes": "AAAA"}}
    found = signed_statement(bundle(envelope(GOOD, KEY), verificationMaterial=material), subject=RELEASE)
    assert found.message == sigstore_bundles.encoded(GOOD)
