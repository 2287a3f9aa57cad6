"""The settings of an instance: `GRIDAPPS_*` environment variables, validated at the start.

docs/settings.md describes each; a test asserts that none is missing there.
"""

import os
import re
import shlex
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gridapps.hooks.targets import Rules

GIB = 1024**3
_LARGEST_USER_ID = 2**31 - 1
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Environment(BaseSettings):
    """All settings. Sizes are in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="GRIDAPPS_", extra="ignore", frozen=True)

    data: Path = Field(Path("instance"), description="the instance's data directory")
    storage: str = Field(
        "",
        description="exports and outputs: a directory or s3://bucket/prefix; empty: the data directory",
    )
    s3_endpoint: str = Field("", description="URL of the S3 service; empty means Amazon's")
    s3_region: str = Field("us-east-1", description="region of the bucket")
    cache: int = Field(100 * GIB, ge=1, description="a node's cache of export files from S3")
    host: str = Field("localhost", description="name or address that clients use; part of the certificate")
    port: int = Field(5443, ge=1, le=65535, description="the TLS port of pages, API and developer registry")
    max_connections: int = Field(
        256, ge=16, le=4096, description="concurrent connections from one address to the TLS port"
    )
    processes: int = Field(2, ge=1, le=64, description="application processes, which answer requests")
    part_timeout: int = Field(
        60,
        ge=0,
        le=3600,
        description="seconds without an answer after which a part is started again; 0 means never",
    )
    listen: str = Field("127.0.0.1", description="address that the TLS port listens on")
    registry_port: int = Field(5001, ge=1, le=65535, description="loopback port of the developer registry")
    trusted_port: int = Field(5002, ge=1, le=65535, description="loopback port of the trusted registry")
    database: str = Field("", description="PostgreSQL URL; empty means SQLite in the data directory")
    broker: str = Field(
        "", description="amqp:// or redis:// URL that rings every node; empty: this machine only"
    )
    broker_ca: str = Field("", description="CA file for an amqps:// or rediss:// broker; empty: the system's")
    engine: str = Field("unix:///var/run/docker.sock", description="address of the container engine")
    node: str = Field("local", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="name of this node")
    slots: int = Field(0, ge=0, le=1024, description="tasks at once on this node; 0 means one per processor")
    node_cpus: float = Field(
        0, ge=0, description="processors of this node for tasks; 0 means all, or one per slot if that is more"
    )
    node_memory: int = Field(
        0, ge=0, description="memory of this node for tasks; 0 means 3/4 of the machine's"
    )
    node_disk: int = Field(
        0, ge=0, description="disk of this node for running tasks; 0 means the data directory's file system"
    )
    node_images: int = Field(
        100 * GIB, ge=0, description="unpacked images that this node's engine keeps; 0 means no limit"
    )
    quota: Literal["loop", "watchdog"] = Field("loop", description="how the output limit is enforced")
    on_stop: Literal["requeue", "leave"] = Field(
        "requeue", description="what a stopping worker does with running containers"
    )
    runtime: str = Field("", description="the engine's runtime, such as runsc; empty means its default")
    user_ids: str = Field(
        "2000000000-2000065535",
        pattern=r"^[0-9]{1,10}-[0-9]{1,10}$",
        description="user and group ids for containers, one for each attempt; nothing else may use them",
    )
    lease: int = Field(60, ge=5, le=3600, description="seconds after which a silent worker loses its tasks")
    max_cpus: float = Field(0, ge=0, description="largest request for processors; 0 means all of the node's")
    max_memory: int = Field(0, ge=0, description="largest request for memory; 0 means 3/4 of the node's")
    max_disk: int = Field(64 * GIB, ge=1024**2, description="largest request for disk by one task")
    max_time: int = Field(7 * 86400, ge=1, description="longest wall-clock time that a task may ask for")
    max_log: int = Field(10 * 1024**2, ge=4096, description="log kept of one task")
    max_output_files: int = Field(150_000, ge=1, le=1_000_000, description="outputs that one task may leave")
    max_image: int = Field(
        8 * GIB, ge=1024**2, description="largest image, as the sum of its compressed layers"
    )
    max_layers: int = Field(127, ge=1, le=127, description="layers that an image may have")
    max_unpacked: int = Field(32 * GIB, ge=1024**2, description="largest image when unpacked")
    max_image_files: int = Field(1_000_000, ge=1, le=2**31 - 1, description="files that an image may have")
    max_registry: int = Field(
        100 * GIB, ge=0, description="disk that the images of one developer may take; 0 means no limit"
    )
    min_free_disk: int = Field(
        2 * GIB,
        ge=0,
        description="free disk below which pushes, imports and new tasks are refused; 0 means none",
    )
    keep_releases: int = Field(
        10, ge=1, le=10_000, description="newest releases of an App whose images are kept at any age"
    )
    keep_unshared: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days for which older images that are not shared are kept; 0 means forever",
    )
    max_queued: int = Field(100_000, ge=1, description="tasks that one user may have waiting or running")
    max_running: int = Field(0, ge=0, description="tasks of one user at once; 0 means no limit")
    max_uploads: int = Field(
        100 * GIB, ge=0, description="uploaded exports that one user may keep; 0 means no limit"
    )
    max_outputs: int = Field(0, ge=0, description="outputs that one user may keep; 0 means no limit")
    keep_outputs: int = Field(
        0, ge=0, le=36500, description="days after a run's end until its outputs are removed; 0 means never"
    )
    reserve_after: int = Field(
        300,
        ge=0,
        description="how long smaller tasks may overtake a large one before a node reserves capacity",
    )
    max_hooks: int = Field(20, ge=0, le=1000, description="hooks that one user may have")
    hook_networks: str = Field(
        "", description="private networks that hooks may reach, such as 10.1.0.0/16,fd00::/8"
    )
    hook_http: bool = Field(False, description="whether targets of hooks may be http:// URLs")
    hook_ca: str = Field("", description="CA file for the targets of hooks; empty: the system's")
    hook_timeout: float = Field(10.0, gt=0, le=60, description="seconds for one delivery as a whole")
    hook_pause: float = Field(10.0, gt=0, le=600, description="seconds between the first two tries")
    signature_keys: str = Field(
        "", description="public keys whose signatures count: a PEM file, or a directory of them"
    )
    require_signature: bool = Field(False, description="whether a share needs a signature by such a key")
    scanner: str = Field("", description="command that judges an image before it is shared; empty: none")
    scanner_timeout: float = Field(600.0, gt=0, le=86400, description="seconds that the scanner may take")
    certificate_days: int = Field(365, ge=1, le=3650, description="validity of a client certificate")
    metrics_token: str = Field("", repr=False, description="bearer token that may read /metrics")
    log_format: Literal["json", "text"] = Field("json", description="how log lines are written")
    debug: bool = Field(False, description="Django's debug pages; never set it on a reachable instance")

    @field_validator("host")
    @classmethod
    def _host_is_a_name_or_address(cls, value: str) -> str:
        """Only names and addresses may enter the certificate and nginx's configuration."""
        try:
            ip_address(value)
        except ValueError:
            labels = value.split(".")
            if len(value) > 253 or not all(
                0 < len(label) < 64 and label.isascii() and label.replace("-", "").isalnum()
                for label in labels
            ):
                raise ValueError("must be a host name or an IP address") from None
        return value

    @field_validator("storage")
    @classmethod
    def _storage_is_a_place(cls, value: str) -> str:
        if value.startswith("s3://"):
            parts = urlsplit(value)
            if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment or len(parts.path) > 200:
                raise ValueError("must be s3://BUCKET or s3://BUCKET/PREFIX")
        elif value and not Path(value).is_absolute():
            raise ValueError("must be an absolute path, s3://BUCKET/PREFIX, or empty for the data directory")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint_is_a_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username):
            raise ValueError("must be an http:// or https:// URL without a user, or empty")
        return value

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, value: str) -> str:
        return str(ip_address(value))

    @field_validator("database")
    @classmethod
    def _database_is_postgresql(cls, value: str) -> str:
        if value and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a postgresql:// URL, or empty for SQLite")
        return value

    @field_validator("broker")
    @classmethod
    def _broker_is_amqp_or_redis(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("amqp", "amqps", "redis", "rediss"):
            raise ValueError("must be an amqp://, amqps://, redis:// or rediss:// URL, or empty")
        return value

    @field_validator("hook_networks")
    @classmethod
    def _hook_networks_are_networks(cls, value: str) -> str:
        for network in value.split(",") if value else ():
            ip_network(network.strip())
        return value

    @field_validator("scanner")
    @classmethod
    def _scanner_is_a_command(cls, value: str) -> str:
        if value and not (words := shlex.split(value)):
            raise ValueError("must be a command and its arguments, or empty")
        # It runs in a directory of its own, to which a relative path would refer.
        if value and "/" in words[0] and not words[0].startswith("/"):
            raise ValueError("must begin with a program on the PATH, or an absolute path")
        return value

    @field_validator("require_signature")
    @classmethod
    def _signatures_need_keys(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("signature_keys"):
            raise ValueError("needs GRIDAPPS_SIGNATURE_KEYS: without keys no signature counts")
        return value

    @field_validator("user_ids")
    @classmethod
    def _user_ids_are_in_range(cls, value: str) -> str:
        first, last = map(int, value.split("-"))
        if not 1000 <= first <= last - 255 or last > _LARGEST_USER_ID:
            raise ValueError(f"must be 256 ids or more, from 1000 to {_LARGEST_USER_ID}")
        return value

    def user_range(self) -> range:
        """The ids of `user_ids`."""
        first, last = map(int, self.user_ids.split("-"))
        return range(first, last + 1)

    def hook_rules(self) -> Rules:
        """The rules for targets of hooks."""
        names = self.hook_networks.split(",") if self.hook_networks else []
        return Rules(networks=tuple(ip_network(name.strip()) for name in names), http=self.hook_http)

    def limits(self) -> dict[str, float]:
        """The largest request for each resource. Unset limits follow the size of this machine."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {
            "cpus": self.max_cpus or os.cpu_count() or 1,
            "memory": self.max_memory or memory * 3 // 4,
            "disk": self.max_disk,
            "time": self.max_time,
        }

    @property
    def shared(self) -> Path:
        """The directory of `exports/` and `outputs/`, unless they are in S3."""
        return Path(self.storage) if self.storage.startswith("/") else self.data.absolute()

    @property
    def origin(self) -> str:
        """The URL of the instance: scheme, host and port."""
        return f"https://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port, as in image references and URLs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
