"""The instances that a user has logged in to, stored in ~/.config/gridapps, which only that user may read.

`config.json` holds addresses and tokens; `instances/HOST:PORT/` the authority to trust; `certs.d/HOST:PORT/`
the client certificate in the layout that container engines read. Environment variables take precedence:
GRIDAPPS_URL, GRIDAPPS_TOKEN, GRIDAPPS_CA and, for the directory itself, GRIDAPPS_CONFIG.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gridapps_client.address import authority, canonical
from gridapps_client.bodies import parsed
from gridapps_client.decoding import decode
from gridapps_client.disk import writing
from gridapps_client.errors import BadAnswer, GridAppsError, Unauthenticated


@dataclass(frozen=True)
class Instance:
    """An instance and its credentials. `ca` is the file of the authority to trust; None: the system's."""

    url: str
    token: str | None = None
    refresh_token: str | None = None
    ca: str | None = None
    certificate: str | None = None


@dataclass(frozen=True)
class _File:
    default: str | None
    instances: dict[str, Instance]


class Configuration:
    """The directory with what is stored between commands."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or _directory()

    @property
    def path(self) -> Path:
        """The file with addresses and tokens."""
        return self.directory / "config.json"

    def instance(self, url: str | None = None) -> Instance:
        """The instance at `url`, at GRIDAPPS_URL, or of the last login. Raises Unauthenticated if none."""
        known = self._load()
        wanted = url or os.environ.get("GRIDAPPS_URL") or known.default
        if not wanted:
            raise Unauthenticated(
                "No instance is known yet. Log in with: gridapps login URL", code="no-instance"
            )
        address = canonical(wanted)
        found = known.instances.get(address, Instance(url=address))
        token = _token_for(address)
        # The stored refresh token does not belong to a token from the environment.
        found = replace(found, token=token, refresh_token=None) if token else found
        return replace(found, ca=os.environ.get("GRIDAPPS_CA") or found.ca)

    def stored(self, url: str) -> Instance | None:
        """What is stored for `url`, regardless of the environment."""
        return self._load().instances.get(canonical(url))

    def save(self, instance: Instance, *, default: bool = False) -> None:
        """Store `instance`. `default`: use it when no other is named."""
        known = self._load()
        instances = known.instances | {instance.url: instance}
        self._store(_File(default=instance.url if default else known.default, instances=instances))

    def forget(self, url: str) -> None:
        """Remove everything stored for `url`, including the certificate."""
        known = self._load()
        instances = {key: value for key, value in known.instances.items() if key != url}
        self._store(_File(default=None if known.default == url else known.default, instances=instances))
        shutil.rmtree(self.directory / "instances" / authority(url), ignore_errors=True)
        shutil.rmtree(self.certificates(url), ignore_errors=True)

    def keep_authority(self, url: str, pem: str) -> Path:
        """Write the authority to trust for `url` and return its file."""
        path = self.directory / "instances" / authority(url) / "ca.crt"
        private_directory(path.parent)
        write_private(path, pem)
        return path

    def certificates(self, url: str) -> Path:
        """The directory with `ca.crt`, `client.cert` and `client.key` for the registry of `url`."""
        return self.directory / "certs.d" / authority(url)

    def keep_certificate(self, url: str, *, ca: str, certificate: str, key: str) -> Path:
        """Write a client certificate for the registry of `url` atomically, and return its directory."""
        target = self.certificates(url)
        private_directory(target.parent)
        replace_directory(target, {"ca.crt": ca, "client.cert": certificate, "client.key": key})
        return target

    def _load(self) -> _File:
        try:
            with self.path.open(encoding="utf-8") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if os.name == "posix" and mode & 0o077:
                    raise GridAppsError(
                        f"Other users may read the tokens in {self.path}; run: chmod 600 {self.path}",
                        code="disk",
                    )
                return decode(_File, parsed(file.read()), where=str(self.path))
        except FileNotFoundError:
            return _File(default=None, instances={})
        except (ValueError, BadAnswer) as error:
            raise GridAppsError(
                f"{self.path} is damaged; remove it and log in again.", code="disk"
            ) from error
        except OSError as error:
            raise GridAppsError(f"{self.path} cannot be read: {error.strerror}.", code="disk") from error

    def _store(self, file: _File) -> None:
        private_directory(self.directory)
        write_private(self.path, json.dumps(asdict(file), indent=2) + "\n")


def private_directory(path: Path) -> None:
    """Make `path` and its missing parents, accessible to the owner only."""
    with writing(path):
        # One by one, because mkdir does not apply its mode to parents.
        for each in (*reversed(path.parents), path):
            if not each.is_dir():
                each.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, with mode 0600."""
    with writing(path):
        # mkstemp makes the file with mode 0600 and an unpredictable name.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def replace_directory(target: Path, files: Mapping[str, str]) -> None:
    """Replace `target` atomically by a directory (0700) of exactly `files` (0600)."""
    with writing(target):
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            for name, text in files.items():
                write_private(fresh / name, text)
            _exchange(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _exchange(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        target.rename(old)
        try:
            fresh.rename(target)
        except BaseException:
            old.rename(target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _token_for(address: str) -> str | None:
    """GRIDAPPS_TOKEN, unless GRIDAPPS_URL names another instance."""
    home = os.environ.get("GRIDAPPS_URL")
    return None if home and canonical(home) != address else os.environ.get("GRIDAPPS_TOKEN")


def _directory() -> Path:
    named = os.environ.get("GRIDAPPS_CONFIG")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "gridapps"
    except RuntimeError:
        raise GridAppsError(
            "This user has no home directory; set GRIDAPPS_CONFIG to a directory for logins.", code="usage"
        ) from None
