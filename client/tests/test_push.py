"""The target of a push, the directory of certificates, and the message of a refusal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gridapps_client import GridAppsError, push

URL = "https://10.99.0.1:5443"


@pytest.mark.parametrize(
    ("repository", "url", "reference"),
    [
        ("10.99.0.1:5443/ground", URL, "10.99.0.1:5443/ground:v1"),
        ("grid.example.org/ground", "https://grid.example.org", "grid.example.org/ground:v1"),
        ("[::1]:5443/ground", "https://[::1]:5443", "[::1]:5443/ground:v1"),
    ],
)
def test_target(repository: str, url: str, reference: str) -> None:
    assert push.target(repository=repository, tag="v1", url=url).reference == reference


@pytest.mark.parametrize(
    "repository",
    [
        "docker.io/ground",
        "10.99.0.1:5444/ground",
        "../../tmp/ground",
        "10.99.0.1:5443/../ground",
        "10.99.0.1:5443/Ground",
        "--tls-verify=false/ground",
        "10.99.0.1:5443/ground:v2",
        "10.99.0.1:5443/a/b",
        "10.99.0.1:5443/ground\n",
        "",
    ],
)
def test_no_other_registry(repository: str) -> None:
    with pytest.raises(GridAppsError, match=r"not a repository|gridapps login https://"):
        push.target(repository=repository, tag="v1", url=URL)


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a/b", "x" * 129, "v1\n"])
def test_no_tag(tag: str) -> None:
    with pytest.raises(GridAppsError, match="is not a tag"):
        push.target(repository="10.99.0.1:5443/ground", tag=tag, url=URL)


@pytest.mark.parametrize("image", ["--authfile=x", "", "a b", "a\nb", "$(x)"])
def test_no_image(image: str, tmp_path: Path) -> None:
    to = push.Target(authority="10.99.0.1:5443", app="ground", tag="v1")
    with pytest.raises(GridAppsError, match="not the name of an image"):
        push.push(image, to=to, certificates=tmp_path, tool="skopeo", tell=print)


def test_without_certificate(tmp_path: Path) -> None:
    to = push.Target(authority="10.99.0.1:5443", app="ground", tag="v1")
    with pytest.raises(GridAppsError, match="gridapps certificate create"):
        push.push("ground:v1", to=to, certificates=tmp_path, tool="skopeo", tell=print)


@pytest.mark.parametrize(
    ("tool", "printed", "said"),
    [
        (
            "docker",
            "denied: The App is not yours.\n",
            "The registry refused the image: The App is not yours.",
        ),
        (
            "docker",
            "unknown: The image has no ENTRYPOINT; add one.\n",
            "The registry refused the image: The image has no ENTRYPOINT; add one.",
        ),
        (
            "skopeo",
            'time="2026-01-01T00:00:00Z" level=fatal msg="writing manifest: uploading manifest v1 to '
            'host:1/app: unknown: The image has no ENTRYPOINT: \\"x\\"."\n',
            'The registry refused the image: The image has no ENTRYPOINT: "x".',
        ),
        (
            "docker",
            'Get "https://host:1/v2/": x509: certificate signed by unknown authority\n',
            'docker could not push the image: Get "https://host:1/v2/": x509: certificate signed by unknown '
            "authority",
        ),
        ("docker", "unauthorized: revoked\n", "The registry refused the image: revoked"),
        (
            "skopeo",
            'time="2026-01-01T00:00:00Z" level=fatal msg="trying to reuse blob sha256:0: '
            'checking: denied: The App \\"x\\" is not yours."\n',
            'The registry refused the image: The App "x" is not yours.',
        ),
        (
            "podman",
            "Getting image source signatures\n"
            "Error: writing manifest: manifest invalid: no ENTRYPOINT\x1b[2J\n",
            "The registry refused the image: no ENTRYPOINT\\x1b[2J",
        ),
        ("podman", "Error: no such image\n", "podman could not push the image: no such image"),
        ("docker", "", "docker could not push the image: it printed nothing"),
    ],
)
def test_refusals(tool: str, printed: str, said: str) -> None:
    assert push.refusal(printed, tool=tool) == said


def test_loopback_as_docker_sees_it() -> None:
    assert push._on_loopback("127.0.0.1:5443")
    assert push._on_loopback("localhost:5443")
    assert push._on_loopback("127.9.9.9")
    assert not push._on_loopback("10.99.0.1:5443")
    assert not push._on_loopback("[::1]:5443")


@pytest.mark.skipif(shutil.which("docker") is None, reason="this machine lacks docker")
@pytest.mark.parametrize("tool", [None, "skopeo"])
def test_unreachable_engine_is_not_reported_as_a_missing_image(
    tool: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    for name in ("ca.crt", "client.cert", "client.key"):
        (tmp_path / name).touch()
    if tool == "skopeo" and shutil.which("skopeo") is None:
        pytest.skip("this machine lacks skopeo")
    to = push.target(repository="grid.example:1/roads", tag="v1", url="https://grid.example:1")
    with pytest.raises(GridAppsError, match="The docker engine does not answer") as caught:
        push.push("no-such-image:1", to=to, certificates=tmp_path, tool=tool, tell=lambda _: None)
    assert "build it" not in str(caught.value)
