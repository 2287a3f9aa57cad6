"""The calls about client certificates."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.utils import timezone

from gridapps.pki.authority import Authority
from gridapps.registry.models import Certificate
from tests.api.conftest import Callers

pytestmark = pytest.mark.django_db
PATH = "/developer/certificates"


@pytest.fixture(autouse=True)
def authority() -> Authority:
    """The instance's authority, as `gridapps-server up` makes it."""
    return Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)


def test_a_generated_key_is_shown_once(callers: Callers) -> None:
    answer = callers.developer("POST", PATH, {"name": "laptop"})
    assert answer.status_code == 201
    issued = answer.json()
    key = serialization.load_pem_private_key(issued["key"].encode(), None)
    pem = x509.load_pem_x509_certificate(issued["pem"].encode())
    assert pem.public_key() == key.public_key()
    pem.verify_directly_issued_by(x509.load_pem_x509_certificate(issued["ca"].encode()))
    assert issued["authority"] == "localhost:5443"
    serial = issued["certificate"]["serial"]
    (shown,) = callers.developer("GET", f"{PATH}/{serial}").json()["certificates"]
    assert shown == issued["certificate"]
    assert (shown["state"], shown["fingerprint"]) == ("valid", pem.fingerprint(hashes.SHA256()).hex())
    assert "PRIVATE" not in callers.developer("GET", PATH).content.decode()


def test_the_key_of_a_csr_stays_with_its_owner(callers: Callers) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    issued = callers.developer("POST", PATH, {"name": "laptop", "csr": csr}).json()
    assert "key" not in issued
    assert x509.load_pem_x509_certificate(issued["pem"].encode()).public_key() == key.public_key()


def test_revoking_holds_at_once_and_twice(callers: Callers) -> None:
    serial = callers.developer("POST", PATH, {"name": "x"}).json()["certificate"]["serial"]
    for _ in range(2):
        assert callers.developer("DELETE", f"{PATH}/{serial}").status_code == 204
    (shown,) = callers.developer("GET", f"{PATH}/{serial}").json()["certificates"]
    assert shown["state"] == "revoked"


def test_an_expired_certificate_says_so(callers: Callers) -> None:
    callers.developer("POST", PATH, {"name": "x"})
    past = timezone.now() - timedelta(days=1)
    Certificate.objects.update(not_before=past - timedelta(days=1), not_after=past)
    assert callers.developer("GET", PATH).json()["certificates"][0]["state"] == "expired"


def test_only_developers_get_certificates_and_nobody_sees_those_of_others(callers: Callers) -> None:
    refused = callers.analyst("POST", PATH, {"name": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not-a-developer")
    serial = callers.developer("POST", PATH, {"name": "x"}).json()["certificate"]["serial"]
    for caller in (callers.analyst, callers.administrator, callers.outsider):
        assert caller("GET", PATH).json() == {"certificates": []}
        for method in ("GET", "DELETE"):
            assert caller(method, f"{PATH}/{serial}").status_code == 404
    assert Certificate.objects.get().revoked_at is None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"name": "a\nb"}, "/name"), ({"name": " "}, "/name"), ({"name": "x", "csr": "no PEM"}, "/csr"),
     ({"name": "x" * 101}, "/name"), ({"name": "x", "csr": "x" * 20_000}, "/csr"), ({}, "/name")],
)  # fmt: skip
def test_bad_requests_name_the_field(callers: Callers, body: dict[str, str], pointer: str) -> None:
    answer = callers.developer("POST", PATH, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    assert answer.json()["fields"][0]["pointer"] == pointer
