"""A thin client of the developer registry itself, CNCF Distribution on the loopback."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
from django.conf import settings

from gridapps.registry import tokens

TIMEOUT = httpx.Timeout(30, connect=2)


class Unavailable(Exception):
    """The developer registry does not answer, or not as it should. Trying again later helps."""


class Missing(LookupError):
    """The repository does not hold this manifest or blob."""


class Rejected(Exception):
    """The developer registry itself refuses a manifest. The message carries its reasons."""


class Repository:
    """One repository. Use it as a context manager; its connection is closed at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{settings.GRIDAPPS.registry_port}/v2/{name}/",
            timeout=TIMEOUT,
            trust_env=False,
        )

    def __enter__(self) -> "Repository":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def blob_size(self, digest: str) -> int:
        """Bytes of a blob. Raises Missing, Unavailable."""
        response = self._send("HEAD", f"blobs/{digest}", actions=["pull"])
        _expect(response, httpx.codes.OK)
        try:
            return int(response.headers["Content-Length"])
        except (KeyError, ValueError):
            raise Unavailable("The developer registry does not tell the size of a blob.") from None

    def blob(self, digest: str, *, limit: int) -> bytes:
        """The first `limit` bytes of a blob; the caller compares the digest. Raises Missing, Unavailable."""
        return self._read(f"blobs/{digest}", limit=limit, accept="*/*")

    def manifest(self, digest: str, *, media_type: str, limit: int) -> bytes:
        """The first `limit` bytes of a manifest, which is there only under its own media type.

        The caller compares the digest. Raises Missing, Unavailable.
        """
        return self._read(f"manifests/{digest}", limit=limit, accept=media_type)

    def put_manifest(self, reference: str, content: bytes, *, media_type: str) -> str:
        """Store a manifest under a tag or its digest; its digest. Raises Rejected, Unavailable."""
        response = self._send(
            "PUT", f"manifests/{reference}", actions=["push", "pull"], content=content,
            headers={"Content-Type": media_type},
        )  # fmt: skip
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise Rejected(_sentence(response))
        _expect(response, httpx.codes.CREATED)
        return str(response.headers.get("Docker-Content-Digest", ""))

    def _read(self, path: str, *, limit: int, accept: str) -> bytes:
        content = bytearray()
        with self._stream(path, accept=accept) as response:
            _expect(response, httpx.codes.OK)
            for part in response.iter_bytes():
                content += part
                if len(content) > limit:
                    break
        return bytes(content[:limit])

    def _send(self, method: str, path: str, *, actions: Sequence[str], **rest: object) -> httpx.Response:
        headers = {**self._authorization(actions), **rest.pop("headers", {})}  # type: ignore[dict-item]
        with _plainly():
            return self._client.request(method, path, headers=headers, **rest)  # type: ignore[arg-type]

    @contextmanager
    def _stream(self, path: str, *, accept: str) -> Iterator[httpx.Response]:
        headers = {**self._authorization(["pull"]), "Accept": accept, "Accept-Encoding": "identity"}
        with _plainly(), self._client.stream("GET", path, headers=headers) as response:
            yield response

    def _authorization(self, actions: Sequence[str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens.token({self._name: actions}, subject='application')}"}


@contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise Unavailable("The developer registry does not answer; try again in a moment.") from error


def _expect(response: httpx.Response, status: int) -> None:
    if response.status_code == httpx.codes.NOT_FOUND:
        raise Missing
    if response.status_code != status:
        raise Unavailable(
            f"The developer registry answered {response.status_code} unexpectedly; try again in a moment."
        )


def _sentence(response: httpx.Response) -> str:
    try:
        errors = response.json()["errors"]
        return " ".join(f"{error['message']} {error.get('detail') or ''}".strip() for error in errors)[:2000]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "The registry refused the manifest."
