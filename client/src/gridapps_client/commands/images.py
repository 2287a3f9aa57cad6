"""`gridapps push`."""

from __future__ import annotations

import click

from gridapps_client import push as pushing
from gridapps_client.client import Client
from gridapps_client.commands.shared import Session, common
from gridapps_client.errors import GridAppsError
from gridapps_client.models import Release
from gridapps_client.text import plain


@click.command()
@click.argument("image")
@click.argument("name", metavar="[APP[:TAG]]", required=False)
@click.option(
    "--with",
    "tool",
    type=click.Choice(pushing.TOOLS),
    help="The tool that pushes; by default a suitable one.",
)
@common
def push(session: Session, image: str, name: str | None, tool: str | None) -> None:
    """Push IMAGE as a release of APP.

    APP[:TAG] defaults to the last part of the image's name. IMAGE may also be an archive in the notation of
    skopeo: docker-archive:FILE or oci:DIRECTORY.
    """
    app_id, tag = _app_and_tag(image, name)
    pushing.judge(image, app_id=app_id, tag=tag)
    client = session.client
    to = pushing.target(repository=client.app(app_id).repository, tag=tag, url=client.url)
    used = pushing.push(
        image,
        to=to,
        certificates=session.configuration.certificates(client.url),
        tool=tool,
        tell=session.tell,
    )
    release = _release(client, app_id, tag)
    for remark in release.remarks:
        session.tell(remark)
    session.result(
        {"app": app_id, "tag": tag, "tool": used, "release": release},
        f"Pushed {plain(app_id)}:{tag} as {plain(release.digest)}.",
    )


def _app_and_tag(image: str, name: str | None) -> tuple[str, str]:
    text = name or image.rpartition("/")[2].partition("@")[0]
    app_id, _, tag = text.partition(":")
    if name is None and image.startswith(("docker-archive:", "oci:", "oci-archive:", "dir:")):
        raise GridAppsError("An archive needs the App: gridapps push IMAGE APP:TAG", code="usage")
    return app_id, tag or "latest"


def _release(client: Client, app_id: str, tag: str) -> Release:
    for release in client.releases(app_id):
        if tag in release.tags:
            return release
    raise GridAppsError(
        f"The image was pushed, but {app_id} has no release {tag!r}; see: gridapps app show {app_id}",
        code="push",
    )
