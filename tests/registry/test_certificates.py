"""Client certificates: who gets one, what is in it, and when it stops to authorise."""

import io
import tarfile
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from gridapps.access import operations as access
from gridapps.access.errors import NotADeveloper
from gridapps.pki import authority
from gridapps.pki.authority import Authority
from gridapps.pki.credentials import InvalidSigningRequest, requested_key
from gridapps.registry import certificates
from gridapps.registry.certificates import InvalidCertificateRequest, NotTrusted, TooManyCertificates
from gridapps.registry.models import Certificate
from tests.fixtures.cast import Cast
from tests.registry.conftest import Developer

pytestmark = pytest.mark.django_db
PEM = serialization.Encoding.PEM


def request(key: Any, *, name: str = "CN=administrator") -> str:
    """A CSR, with a subject that nobody is to believe."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(PEM).decode()


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "RSA", "Ed25519"],
)
def test_of_a_csr_only_the_key_counts(cast: Cast, key: Any) -> None:
    issued = certificates.issue(user=cast.developer, name="laptop", csr=request(key))
    assert issued.key is None
    made = load(issued.pem)
    assert made.public_key() == key.public_key()
    (name,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "developer"
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (constraints.ca, list(usages)) == (False, [ExtendedKeyUsageOID.CLIENT_AUTH])
    assert certificates.presented_by(quote(issued.pem)) == issued.certificate


def test_a_generated_key_belongs_to_the_certificate(cast: Cast) -> None:
    issued = certificates.issue(user=cast.developer, name="laptop")
    assert issued.key is not None
    key = serialization.load_pem_private_key(issued.key.encode(), None)
    assert key.public_key() == load(issued.pem).public_key()
    record, made = issued.certificate, load(issued.pem)
    assert record.serial == f"{made.serial_number:x}"
    assert record.fingerprint == made.fingerprint(hashes.SHA256()).hex()
    days = (record.not_after - timezone.now()) / timedelta(days=1)
    assert settings.GRIDAPPS.certificate_days - 1 < days <= settings.GRIDAPPS.certificate_days


def test_the_private_key_is_stored_nowhere(cast: Cast) -> None:
    issued = certificates.issue(user=cast.developer, name="laptop")
    assert issued.key is not None
    secret = issued.key.splitlines()[1]
    assert all(secret not in str(value) for row in Certificate.objects.values() for value in row.values())


def tampered() -> str:
    """A CSR for somebody else's key: the signature does not fit."""
    text = request(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(text.encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(PEM).decode()


def sized(bits: int, exponent: int = 65537) -> str:
    """A request whose key was never generated; only its numbers are looked at before the signature."""
    return request(rsa.generate_private_key(exponent, bits))


@pytest.mark.parametrize(
    ("csr", "words"),
    [
        ("", "not a PEM"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "not a PEM"),
        ("x" * 20_000, "larger than"),
        (sized(1024), "key must be"),
        (sized(2048, 3), "key must be"),
        (request(ec.generate_private_key(ec.SECP256K1())), "key must be"),
        (request(dsa.generate_private_key(1024)), "key must be"),
        (tampered(), "not signed with its own key"),
    ],
    ids=["empty", "garbage", "long", "short key", "small exponent", "other curve", "DSA", "tampered"],
)
def test_bad_requests_are_refused(cast: Cast, csr: str, words: str) -> None:
    with pytest.raises(InvalidCertificateRequest, match=words) as raised:
        certificates.issue(user=cast.developer, name="laptop", csr=csr)
    assert [pointer for pointer, _ in raised.value.fields] == ["/csr"]
    assert not Certificate.objects.exists()


@given(text=st.text(max_size=200))
def test_any_request_is_answered(text: str) -> None:
    with pytest.raises(InvalidSigningRequest):
        requested_key(text)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0", "x" * 101])
def test_names_are_one_line(cast: Cast, name: str) -> None:
    with pytest.raises(InvalidCertificateRequest) as raised:
        certificates.issue(user=cast.developer, name=name)
    assert [pointer for pointer, _ in raised.value.fields] == ["/name"]


def test_only_verified_developers_get_one(cast: Cast) -> None:
    for user in (cast.analyst, cast.administrator, cast.outsider):
        with pytest.raises(NotADeveloper):
            certificates.issue(user=user, name="laptop")


def test_live_certificates_are_limited(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MAX_LIVE", 2)
    first = certificates.issue(user=cast.developer, name="1")
    certificates.issue(user=cast.developer, name="2")
    with pytest.raises(TooManyCertificates):
        certificates.issue(user=cast.developer, name="3")
    certificates.revoke(by=first.certificate.user, certificate=first.certificate)
    certificates.issue(user=cast.developer, name="3")


def test_revocation_acts_at_once_and_once(developer: Developer) -> None:
    certificate = developer.issued.certificate
    certificates.revoke(by=certificate.user, certificate=certificate)
    revoked = certificate.revoked_at
    assert revoked is not None
    with pytest.raises(NotTrusted, match="'laptop' was revoked on"):
        certificates.presented_by(developer.presented)
    certificates.revoke(by=certificate.user, certificate=certificate)
    assert certificate.revoked_at == revoked


def test_a_developer_who_is_no_longer_one_is_not_trusted(developer: Developer, cast: Cast) -> None:
    access.refuse_developer(user=cast.developer, by=None)
    with pytest.raises(NotTrusted, match="developer is not a verified developer"):
        certificates.presented_by(developer.presented)
    access.verify_developer(user=cast.developer, by=None)
    certificates.presented_by(developer.presented)
    cast.developer.is_active = False
    cast.developer.save()
    with pytest.raises(NotTrusted):
        certificates.presented_by(developer.presented)


def test_an_expired_certificate_is_not_trusted(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "CLOCK_SKEW", timedelta(days=400))
    issued = certificates.issue(user=cast.developer, name="old")
    certificates.presented_by(quote(issued.pem))
    with monkeypatch.context() as patch:
        late = load(issued.pem).not_valid_after_utc + timedelta(seconds=1)
        patch.setattr(certificates, "datetime", type("Clock", (), {"now": staticmethod(lambda _: late)}))
        with pytest.raises(NotTrusted, match="has expired"):
            certificates.presented_by(quote(issued.pem))


def test_certificates_of_others_are_not_trusted(developer: Developer, tmp_path: Any) -> None:
    stranger = Authority.create_or_load(tmp_path, host="localhost")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    foreign = stranger.issue_client(key=key, common_name="developer", days=10)
    with pytest.raises(NotTrusted, match="not issued by this instance"):
        certificates.presented_by(quote(foreign.public_bytes(PEM).decode()))
    # One that the authority signed, but that nobody recorded: as after the loss of the database.
    unknown = authority.current().issue_client(key=key, common_name="developer", days=10)
    with pytest.raises(NotTrusted, match="not known"):
        certificates.presented_by(quote(unknown.public_bytes(PEM).decode()))
    ours = authority.current().ca_pem
    with pytest.raises(NotTrusted):
        certificates.presented_by(quote(ours))


@given(text=st.text(max_size=300))
def test_whatever_is_presented_is_judged(text: str) -> None:
    with pytest.raises(NotTrusted):
        certificates.presented_by(text)


def test_no_certificate_says_where_one_goes() -> None:
    with pytest.raises(NotTrusted, match=r"certs\.d/localhost:5443"):
        certificates.presented_by("")


def test_the_bundle_is_what_an_engine_reads(cast: Cast) -> None:
    issued = certificates.issue(user=cast.developer, name="laptop")
    with tarfile.open(fileobj=io.BytesIO(issued.bundle())) as tar:
        found = {entry.name: (entry.mode, tar.extractfile(entry).read().decode()) for entry in tar}  # type: ignore[union-attr]
    place = settings.GRIDAPPS.authority
    assert found == {
        f"{place}/ca.crt": (0o644, issued.ca),
        f"{place}/client.cert": (0o644, issued.pem),
        f"{place}/client.key": (0o600, issued.key),
    }


def test_the_bundle_of_a_csr_has_no_key(cast: Cast) -> None:
    csr = request(ec.generate_private_key(ec.SECP256R1()))
    issued = certificates.issue(user=cast.developer, name="laptop", csr=csr)
    with tarfile.open(fileobj=io.BytesIO(issued.bundle())) as tar:
        assert [name.rpartition("/")[2] for name in tar.getnames()] == ["ca.crt", "client.cert"]
    with pytest.raises(ValueError, match="generated key"):
        issued.p12("secret")


def test_pkcs12_opens_with_its_password_alone(cast: Cast) -> None:
    issued = certificates.issue(user=cast.developer, name="laptop")
    packed = issued.p12("größer")
    with pytest.raises(ValueError, match=r"[Pp]assword"):
        pkcs12.load_key_and_certificates(packed, b"other")
    key, made, others = pkcs12.load_key_and_certificates(packed, "größer".encode())
    assert key is not None
    assert made == load(issued.pem)
    assert others == [load(issued.ca)]
    with pytest.raises(ValueError, match="password"):
        issued.p12("")
