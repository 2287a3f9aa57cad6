"""What the doctor says of the settings around what is shared: keys, and the scanner."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from pydantic import ValidationError

from gridapps.config.environment import Environment
from gridapps.server.doctor import Finding, examine
from tests.registry import signing


def findings(tmp_path: Path, **settings: object) -> dict[str, Finding]:
    environment = Environment(data=tmp_path, **settings)  # type: ignore[arg-type]
    return {finding.check: finding for finding in examine(environment, works=False)}


def test_keys_and_scanner_that_are_there(tmp_path: Path) -> None:
    signing.write_public(ed25519.Ed25519PrivateKey.generate(), tmp_path / "release.pub")
    keys = tmp_path / "release.pub"
    found = findings(tmp_path, signature_keys=str(keys), require_signature=True, scanner="sh -c 'exit 0'")
    assert (found["signature keys"].detail, found["signature keys"].fault) == (
        "release, and shares demand one", "",
    )  # fmt: skip
    assert found["scanner"].fault == ""
    found = findings(tmp_path)
    assert (found["signature keys"].detail, found["scanner"].detail) == ("none", "none")


def test_keys_and_scanner_that_are_not(tmp_path: Path) -> None:
    found = findings(tmp_path, signature_keys=str(tmp_path), scanner="no-such-program --input {}")
    assert "holds no public key" in found["signature keys"].fault
    assert "There is no program no-such-program" in found["scanner"].fault


@pytest.mark.parametrize(
    "settings",
    [
        {"require_signature": True},
        {"scanner": "unclosed 'quote"},
        {"scanner": "  "},
        {"scanner": "./scan.sh"},
        {"scanner_timeout": 0},
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Environment(**settings)  # type: ignore[arg-type]
