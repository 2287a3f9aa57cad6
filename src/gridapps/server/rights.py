"""What each account may read and write in the data directory, and what it connects to.

docs/security.md shows the table. tests/instance/test_accounts.py checks that each account is refused
everything else. `layout` has the owners and modes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gridapps.server import accounts

EVERYBODY_READS = (
    "run",
    "run/parts.json",
    "authority",
    "authority/ca.crt",
    "authority/server.crt",
    "authority/token.crt",
    "instance-id",
)


@dataclass(frozen=True, kw_only=True)
class Rights:
    """The rights of an account. A directory includes its contents; `writes` includes reading."""

    runs: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reaches: str


_DATABASE = ("database", "run/bells")
RIGHTS: Mapping[str, Rights] = {
    "nginx": Rights(
        runs="nginx, master and workers",
        reads=("authority/server.key", "outputs", "run/nginx.conf", "static"),
        writes=("run/application/1.socket", "run/application/2.socket", "run/nginx"),
        reaches="clients; application, both registries",
    ),
    "application": Rights(
        runs="pages and API",
        reads=("authority/ca.key", "authority/token.key", "outputs", "run/uploads", "secret-key", "trusted"),
        writes=(*_DATABASE, "incoming", "registry", "run/application", "run/reading"),
        reaches="database, broker, storage, both registries",
    ),
    "registry": Rights(
        runs="the developer registry",
        reads=("run/registry.json", "run/uploads"),
        writes=("registry",),
        reaches="nothing; nginx, application, promoter and engine connect to it",
    ),
    "trusted": Rights(
        runs="the trusted registry",
        reads=("run/trusted.json",),
        writes=("trusted",),
        reaches="nothing; nginx, application, promoter and engine connect to it",
    ),
    "courier": Rights(
        runs="deliveries of hooks",
        reads=("secret-key",),
        writes=_DATABASE,
        reaches="database; targets of hooks",
    ),
    "promoter": Rights(
        runs="copies of shared releases",
        reads=("authority/token.key",),
        writes=(*_DATABASE, "run/scanner/socket", "scans"),
        reaches="database, both registries; the scanner",
    ),
    "scanner": Rights(
        runs="the operator's scanner, if there is one",
        reads=("scans",),
        writes=("run/scanner", "scanner"),
        reaches="what the operator's command connects to",
    ),
    "housekeeper": Rights(
        runs="removal of images and sessions",
        reads=("run/uploads", "trusted"),
        writes=(*_DATABASE, "registry", "run/housekeeper"),
        reaches="database",
    ),
    "importer": Rights(
        runs="checks of uploads, removal of export files",
        writes=(*_DATABASE, "exports", "incoming"),
        reaches="database, storage",
    ),
    "worker": Rights(
        runs="the queue of a node, its tasks and their outputs",
        reads=("authority/token.key", "exports"),
        writes=(*_DATABASE, "attempts", "cache", "images", "outputs", "run/launcher.sock", "run/worker"),
        reaches="database, broker, storage; the launcher",
    ),
}


def table() -> Iterator[str]:
    """The lines of the table in docs/security.md."""
    yield "| account | runs | reads | writes | reaches |"
    yield "|---|---|---|---|---|"
    for role, rights in RIGHTS.items():
        yield (
            f"| `{accounts.name(role)}` | {rights.runs} | {_names(rights.reads)} | {_names(rights.writes)} "
            f"| {rights.reaches} |"
        )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
