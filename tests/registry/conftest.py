"""A developer with a certificate and an App, and a real developer registry behind the application's views."""

import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.conf import settings as django_settings
from django.test import Client

from gridapps.oci.manifests import OCI_MANIFEST
from gridapps.pki import authority, tokens
from gridapps.pki.tokens import Registry
from gridapps.pushes.disk import STORAGE
from gridapps.registry import certificates, operations
from gridapps.registry.certificates import Issued
from gridapps.registry.models import App
from gridapps.server import distribution
from tests.fixtures.cast import Cast
from tests.fixtures.ports import free_port
from tests.registry.built import Image, digest, layer

PLAIN = httpx.Client(trust_env=False)  # one for all tests: making one takes longer than a request


class Refused(Exception):
    """The application does not let the request through to the registry."""


@dataclass
class Developer:
    """The developer of the cast at work, as nginx would hand the requests on."""

    issued: Issued
    app: App
    presented: str = field(init=False)

    def __post_init__(self) -> None:
        self.presented = quote(self.issued.pem)

    @property
    def name(self) -> str:
        return self.app.app_id

    def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> Any:
        """A request with the certificate; the answer."""
        media_type = headers.pop("media_type", "")
        sent = {"X-Client-Certificate": self.presented, "Host": django_settings.GRIDAPPS.host, **headers}
        return Client().generic(method, path, content, content_type=media_type, headers=sent, secure=True)

    def authorize(self, method: str, uri: str) -> Any:
        """nginx's question about a request."""
        asked = {"X-Original-Method": method, "X-Original-URI": uri}
        return self.ask("GET", "/registry/authorize", b"", **asked)

    def request(self, method: str, uri: str, content: bytes = b"", *, expect: int = 0) -> httpx.Response:
        """A request that is judged, as nginx has it judged, and then made to the registry itself.

        Raises Refused.
        """
        asked = {"X-Original-Method": method, "X-Original-URI": uri, "X-Original-Length": str(len(content))}
        judged = self.ask("GET", "/registry/authorize", b"", **asked)
        if judged.status_code != 204:
            raise Refused(judged.content)
        headers = {"Authorization": judged["X-Registry-Authorization"]}
        base = f"http://127.0.0.1:{django_settings.GRIDAPPS.registry_port}"
        answer = PLAIN.request(method, base + uri, content=content, headers=headers)
        assert not expect or answer.status_code == expect, answer.text
        return answer

    def upload(self, *blobs: bytes, name: str = "") -> None:
        """Upload blobs to the registry itself."""
        name = name or self.name
        headers = {
            "Authorization": f"Bearer {tokens.registry_token({name: ['push', 'pull']}, subject='test')}"
        }
        base = f"http://127.0.0.1:{django_settings.GRIDAPPS.registry_port}"
        with httpx.Client(base_url=base, headers=headers, trust_env=False) as client:
            for blob in blobs:
                begun = client.post(f"/v2/{name}/blobs/uploads/")
                assert begun.status_code == 202, begun.text
                there = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest(blob)})
                done = client.put(there, content=blob)
                assert done.status_code == 201, done.text

    def push(self, manifest: bytes, reference: str = "v1", *, media_type: str = OCI_MANIFEST) -> Any:
        """PUT a manifest, as the last step of a push."""
        return self.ask("PUT", f"/v2/{self.name}/manifests/{reference}", manifest, media_type=media_type)


@pytest.fixture
def developer(cast: Cast) -> Developer:
    """The verified developer, with an App of a new name: the registry outlives each test's database."""
    issued = certificates.issue(user=cast.developer, name="laptop")
    app_id = f"roads-{secrets.token_hex(4)}"
    return Developer(issued, operations.create_app(by=cast.developer, app_id=app_id, title="Roads"))


@pytest.fixture
def release(developer: Developer) -> str:
    """A release that no other test has pushed; its digest."""
    image = Image(layers=[layer(content=secrets.token_bytes(100))])
    developer.upload(*image.blobs)
    assert developer.push(image.manifest).status_code == 201
    return digest(image.manifest)


@dataclass(frozen=True)
class RunningRegistry:
    """A registry of its own process, which trusts the tokens of the tests' authority."""

    port: int
    storage: Path

    def path(self, digest: str) -> Path:
        """The file of a blob or manifest."""
        value = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"


@pytest.fixture(scope="session")
def developer_registry() -> Iterator[RunningRegistry]:
    """A real developer registry."""
    with _registry(Registry.DEVELOPER) as started:
        yield started


@pytest.fixture(scope="session")
def trusted_registry() -> Iterator[RunningRegistry]:
    """A real trusted registry."""
    with _registry(Registry.TRUSTED) as started:
        yield started


@contextmanager
def _registry(service: Registry) -> Iterator[RunningRegistry]:
    data = Path(tempfile.mkdtemp(prefix="registry-"))
    # Both are read once per process: now, before a test sets another data directory.
    authority.current()
    authority.signer()
    (data / "run").mkdir()
    (data / "authority").symlink_to(django_settings.DATA / "authority")
    (data / "secret-key").write_text("secret")
    environment = django_settings.GRIDAPPS.model_copy(
        update={"data": data, "registry_port": free_port(), "trusted_port": free_port()}
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(distribution.write(environment, service))],
        env={**distribution.clean_environment(), "TMPDIR": str(data)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 120
    port = distribution.port(environment, service)
    while not _listens(port):
        assert process.poll() is None, "docker-registry ended"
        assert time.monotonic() < end, "docker-registry does not listen"
        time.sleep(0.05)
    try:
        yield RunningRegistry(port, data / STORAGE[service])
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def set_limits(settings: Any) -> Callable[..., None]:
    """Changes settings of the instance for one test."""

    def change(**changes: Any) -> None:
        settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update=changes)

    return change


@pytest.fixture
def both_registries(
    developer_registry: RunningRegistry, trusted_registry: RunningRegistry, set_limits: Callable[..., None]
) -> None:
    """The application talks to both real registries."""
    set_limits(registry_port=developer_registry.port, trusted_port=trusted_registry.port)


@pytest.fixture
def its_disk(developer_registry: RunningRegistry, real_registry: None, settings: Any) -> None:
    """The instance's directory is the one in which the real registry stores."""
    settings.DATA = developer_registry.storage.parent


@pytest.fixture
def real_registry(developer_registry: RunningRegistry, set_limits: Callable[..., None]) -> None:
    """The application talks to the real developer registry."""
    set_limits(registry_port=developer_registry.port)
