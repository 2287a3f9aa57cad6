"""The home page shows everything, page by page, and the form of a run keeps what was entered."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from gridapps.access.models import AccessTag, User
from gridapps.exports.models import Export, ExportFile
from gridapps.pki.authority import Authority
from gridapps.registry import operations as registry
from gridapps.registry.models import App, Release
from gridapps.runs.models import Run
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
SCHEMA = {
    "type": "object",
    "properties": {"cell": {"type": "number", "minimum": 0.1}, "name": {"type": "string"}},
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def authority() -> Authority:
    return Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)


def browser(user: User) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    client.force_login(user)
    return client


@pytest.fixture
def app(cast: Cast) -> App:
    return registry.create_app(by=cast.developer, app_id="roads", title="Roads", arguments=SCHEMA)


@pytest.fixture
def release(app: App) -> Release:
    return Release.objects.create(
        app=app, digest="sha256:" + "7" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip


@pytest.fixture
def exports(cast: Cast) -> list[Export]:
    made = [Export.objects.create(owner=cast.developer, name=f"city {number}") for number in range(45)]
    for each in made:
        ExportFile.objects.create(
            export=each, name="a.laz", path=f"{each.pk}", size=1, sha256="", points=1, las_version="1.4",
            point_format=6, bounds=[], footprint=b"",
        )  # fmt: skip
    return made


def test_every_run_and_export_can_be_reached(cast: Cast, release: Release, exports: list[Export]) -> None:
    keys = set()
    for number in range(45):
        run = Run.objects.create(
            owner=cast.developer, release=release, export=exports[number], arguments={}, cpus=1, memory=1,
            disk=1, time=1,
        )  # fmt: skip
        keys.add(str(run.pk))
    client = browser(cast.developer)
    seen, names, path = set(), set(), "/"
    for _ in range(3):
        page = client.get(path).content.decode()
        assert "of 45" in page
        seen |= set(re.findall(r'href="/runs/([0-9a-f-]{36})"', page))
        names |= set(re.findall(r">(city \d+)</a></td>", page))
        following = dict(re.findall(r'rel="next" href="(\?[^#"]*)#(\w+)"', page))
        path = "/" + next((query for query, name in following.items() if name == "runs"), "")
    assert seen == keys
    assert names == {f"city {number}" for number in range(25, 45)}, "the exports stay on their first page"
    second = client.get("/?exports=2&runs=3").content.decode()
    assert "city 24" in second
    assert "41 to 45 of 45" in second
    assert 'href="?exports=1&amp;runs=3#exports"' in second
    assert client.get("/?runs=999&apps=x&exports=-1").status_code == 200, "the nearest page there is"


def test_administrators_see_all_apps_with_the_way_to_share_them(cast: Cast, release: Release) -> None:
    page = browser(cast.administrator).get("/").content.decode()
    assert 'href="/apps/roads#share"' in page
    shared = browser(cast.administrator).get("/apps/roads").content.decode()
    assert 'id="share"' in shared
    assert "access tag</a> first" in shared, "there is no tag yet"
    AccessTag.objects.create(name="city")
    shared = browser(cast.administrator).get("/apps/roads").content.decode()
    assert re.search(r'id="share".*<option>city</option>', shared, re.DOTALL)
    assert "roads" not in browser(cast.outsider).get("/").content.decode()
    own = browser(cast.developer).get("/").content.decode()
    assert "roads" in own
    assert "#share" not in own


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"cell": 0}', ["<code>/cell</code>"]),
        ('{"cell": 0, "name": 3}', ["<code>/cell</code>", "<code>/name</code>"]),
        ("{cell: 1", ["not a JSON object"]),
        ("[1]", ["not a JSON object"]),
        ('{"cell": "</textarea><b>"}', ["&lt;/textarea&gt;&lt;b&gt;", "<code>/cell</code>"]),
    ],
)
def test_a_wrong_argument_keeps_what_was_entered(
    cast: Cast, release: Release, exports: list[Export], arguments: str, said: list[str]
) -> None:
    chosen = exports[10]
    form = {"export": str(chosen.pk), "arguments": arguments}
    answer = browser(cast.developer).post("/apps/roads/run", form)
    page = answer.content.decode()
    assert answer.status_code == 400
    for each in said:
        assert each in page
    kept = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert kept
    assert kept[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">") == arguments
    assert f'<option value="{chosen.pk}" selected>' in page
    assert not Run.objects.exists()


def test_a_key_that_is_no_export(cast: Cast, release: Release, exports: list[Export]) -> None:
    for key in ("", "x", "²", "9" * 5000, "-1"):
        answer = browser(cast.developer).post("/apps/roads/run", {"export": key, "arguments": "{}"})
        assert answer.status_code == 400, key
    good = browser(cast.developer).post("/apps/roads/run", {"export": str(exports[0].pk), "arguments": ""})
    assert good.status_code == 302


def test_lists_of_an_app_say_what_they_leave_out(
    cast: Cast, release: Release, exports: list[Export], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridapps.web.app_pages.EXPORTS_SHOWN", 40)
    page = browser(cast.developer).get("/apps/roads").content.decode()
    assert "The newest 40 of 45 exports." in page
    assert "gridapps run roads --export KEY" in page
