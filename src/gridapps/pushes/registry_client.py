"""A client of the two registries: CNCF Distribution on the loopback."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import httpx
from django.conf import settings

from gridapps.access.refusals import Refused
from gridapps.pki import tokens
from gridapps.pki.tokens import Registry

CHUNK = 1024**2  # bytes
TIMEOUT = httpx.Timeout(30, connect=2)


class Unavailable(Refused):
    """The registry does not answer, or answers unexpectedly. The caller can try again later."""

    code = "unavailable"


class NotInRegistry(LookupError):
    """The repository does not have this manifest or blob."""


class Rejected(Exception):
    """The registry refuses a manifest or blob. The message has its reasons."""


class Repository:
    """One repository. A context manager, which closes the connection."""

    def __init__(self, name: str, registry: Registry = Registry.DEVELOPER) -> None:
        self._name = name
        self._registry = registry
        limits = settings.GRIDAPPS
        port = limits.registry_port if registry is Registry.DEVELOPER else limits.trusted_port
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/v2/{name}/",
            timeout=TIMEOUT,
            trust_env=False,
        )

    def __enter__(self) -> "Repository":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def blob_size(self, digest: str) -> int:
        """Bytes of a blob. Raises NotInRegistry, Unavailable."""
        response = self._send("HEAD", f"blobs/{digest}", actions=["pull"])
        self._expect(response, httpx.codes.OK)
        try:
            return int(response.headers["Content-Length"])
        except (KeyError, ValueError):
            raise Unavailable(f"{self._what} does not report the size of a blob.") from None

    def blob(self, digest: str, *, limit: int) -> bytes:
        """The first `limit` bytes of a blob. The caller compares the digest.

        Raises NotInRegistry, Unavailable.
        """
        return self._read(f"blobs/{digest}", limit=limit, accept="*/*")

    def manifest(self, digest: str, *, media_type: str, limit: int) -> bytes:
        """The first `limit` bytes of a manifest. The registry returns it only as its own media type.

        The caller compares the digest. Raises NotInRegistry, Unavailable.
        """
        return self._read(f"manifests/{digest}", limit=limit, accept=media_type)

    def put_manifest(self, reference: str, content: bytes, *, media_type: str) -> str:
        """Store a manifest under a tag or its digest, and return the digest. Raises Rejected, Unavailable."""
        response = self._send(
            "PUT", f"manifests/{reference}", actions=["push", "pull"], content=content,
            headers={"Content-Type": media_type},
        )  # fmt: skip
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise Rejected(_sentence(response))
        self._expect(response, httpx.codes.CREATED)
        return str(response.headers.get("Docker-Content-Digest", ""))

    @contextmanager
    def reading(self, digest: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob as they arrive. Raises NotInRegistry, Unavailable."""
        with self._stream(f"blobs/{digest}", accept="*/*") as response:
            self._expect(response, httpx.codes.OK)
            yield response.iter_raw(CHUNK)

    def put_blob(self, digest: str, content: Iterable[bytes], *, size: int) -> None:
        """Store a blob of `size` bytes; the registry compares the digest. Raises Rejected, Unavailable."""
        begun = self._send("POST", "blobs/uploads/", actions=["push", "pull"])
        self._expect(begun, httpx.codes.ACCEPTED)
        there = self._client.base_url.join(begun.headers["Location"]).copy_merge_params({"digest": digest})
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        response = self._send("PUT", str(there), actions=["push", "pull"], content=content, headers=headers)
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise Rejected(_sentence(response))
        self._expect(response, httpx.codes.CREATED)

    def _read(self, path: str, *, limit: int, accept: str) -> bytes:
        content = bytearray()
        with self._stream(path, accept=accept) as response:
            self._expect(response, httpx.codes.OK)
            for part in response.iter_bytes():
                content += part
                if len(content) > limit:
                    break
        return bytes(content[:limit])

    def _send(self, method: str, path: str, *, actions: Sequence[str], **rest: object) -> httpx.Response:
        headers = {**self._authorization(actions), **rest.pop("headers", {})}  # type: ignore[dict-item]
        with self._plainly():
            return self._client.request(method, path, headers=headers, **rest)  # type: ignore[arg-type]

    @contextmanager
    def _stream(self, path: str, *, accept: str) -> Iterator[httpx.Response]:
        headers = {**self._authorization(["pull"]), "Accept": accept, "Accept-Encoding": "identity"}
        with self._plainly(), self._client.stream("GET", path, headers=headers) as response:
            yield response

    def _authorization(self, actions: Sequence[str]) -> dict[str, str]:
        signed = tokens.registry_token({self._name: actions}, subject="application", registry=self._registry)
        return {"Authorization": f"Bearer {signed}"}

    @property
    def _what(self) -> str:
        return f"The {'developer' if self._registry is Registry.DEVELOPER else 'trusted'} registry"

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise Unavailable(f"{self._what} does not answer; try again in a moment.") from error

    def _expect(self, response: httpx.Response, status: int) -> None:
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotInRegistry
        if response.status_code != status:
            raise Unavailable(
                f"{self._what} answered {response.status_code} unexpectedly; try again in a moment."
            )


def _sentence(response: httpx.Response) -> str:
    try:
        errors = response.json()["errors"]
        return " ".join(f"{error['message']} {error.get('detail') or ''}".strip() for error in errors)[:2000]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "The registry refused the manifest."
