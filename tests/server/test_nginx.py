"""To which registry nginx's configuration sends requests."""

import re
from pathlib import Path

import pytest

from gridapps.config.environment import Environment
from gridapps.server import nginx

DIGEST = "sha256:" + "0" * 64


def chosen(uri: str) -> str:
    """The upstream of a request by the regular expressions: nginx uses the first that matches."""
    text = nginx.configuration(Environment(data=Path("/data")))
    for expression, body in re.findall(r"location ~ (\S+) \{(.*?)\n        \}", text, re.DOTALL):
        if re.search(expression, uri):
            return re.search(r"proxy_pass http://(\S+);", body)[1]  # type: ignore[index]
    return "registry"


@pytest.mark.parametrize("app", ["roads", "manifests", "blobs", "tags", "grid", "uploads", "v2"])
def test_every_app_id_reaches_its_registry(app: str) -> None:
    """Apps that have a reserved app-id from an older version continue to work."""
    assert chosen(f"/v2/grid/{app}/manifests/{DIGEST}") == "trusted"
    assert chosen(f"/v2/grid/{app}/blobs/{DIGEST}") == "trusted"
    assert chosen(f"/v2/{app}/manifests/v1") == "$manifests"
    assert chosen(f"/v2/{app}/manifests/{DIGEST}") == "$manifests"
    assert chosen(f"/v2/{app}/blobs/uploads/") == "registry"
    assert chosen(f"/v2/{app}/blobs/{DIGEST}") == "registry"
