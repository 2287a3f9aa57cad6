"""The pages: who sees what, what forms do, and which headers restrict the browser."""

import base64
import html
import io
import re
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from oauth2_provider.models import Application

from gridapps.access import operations as access
from gridapps.access.models import Developer, User
from gridapps.exports import receiving
from gridapps.exports.models import Export, ExportFile
from gridapps.pki.authority import Authority
from gridapps.registry import operations as registry
from gridapps.registry.models import App, Certificate, Release
from gridapps.runs.models import Output, Run, Task
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def authority() -> Authority:
    return Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)


def browser(user: User | None = None) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    if user:
        client.force_login(user)
    return client


@pytest.fixture
def app(cast: Cast) -> App:
    return registry.create_app(by=cast.developer, app_id="roads", title="<b>Roads</b>")


@pytest.mark.parametrize("name", ["home", "settings"])
def test_strangers_are_sent_to_the_login(db: None, name: str) -> None:
    answer = browser().get(reverse(name))
    assert (answer.status_code, answer["Location"]) == (302, f"/login?next={reverse(name)}")


def test_a_user_logs_in_and_out(db: None) -> None:
    access.create_user(by=None, username="ann", password="correct horse battery")
    client = browser()
    wrong = client.post("/login", {"username": "ann", "password": "no"})
    assert b"correct username and password" in wrong.content
    answer = client.post("/login", {"username": "ann", "password": "correct horse battery"})
    assert answer["Location"] == "/"
    cookie = client.cookies["sessionid"]
    assert cookie["secure"]
    assert cookie["httponly"]
    assert client.get("/").status_code == 200
    assert client.get("/logout").status_code == 405, "a link must not log anybody out"
    client.post("/logout")
    assert client.get("/").status_code == 302


@pytest.mark.parametrize(
    "path", ["/", "/login", "/settings", "/apps/roads", "/apps/none", "/admin/", "/metrics"]
)
def test_head_of_a_page_answers_like_get(app: App, cast: Cast, path: str) -> None:
    client = browser(cast.developer)
    get, head = client.get(path), client.head(path)
    assert (head.status_code, head.get("Location")) == (get.status_code, get.get("Location"))
    assert head.content == b""


def test_the_login_leads_nowhere_else(db: None) -> None:
    access.create_user(by=None, username="ann", password="correct horse battery")
    answer = browser().post(
        "/login?next=https://evil.example/", {"username": "ann", "password": "correct horse battery"}
    )
    assert answer["Location"] == "/"


def test_every_page_forbids_foreign_and_inline_code(cast: Cast, app: App) -> None:
    for path in ("/login", "/", "/settings", "/apps/roads", "/nothing"):
        answer = browser(cast.developer).get(path)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer["X-Frame-Options"] == "DENY"
        assert not re.search(rb"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", answer.content)


def test_what_users_write_is_text(cast: Cast, app: App) -> None:
    answer = browser(cast.developer).get("/apps/roads")
    assert b"&lt;b&gt;Roads" in answer.content
    assert b"<b>Roads" not in answer.content
    assert b"docker push localhost:5443/roads:v1" in answer.content


def test_an_app_page_is_not_for_outsiders(cast: Cast, app: App) -> None:
    absent = browser(cast.outsider).get("/apps/none")
    foreign = browser(cast.outsider).get("/apps/roads")
    assert (absent.status_code, foreign.status_code) == (404, 404)
    strip = re.compile(rb'value="[^"]*"')  # the CSRF tokens
    assert strip.sub(b"", absent.content) == strip.sub(b"", foreign.content)
    assert b"docker push" not in browser(cast.administrator).get("/apps/roads").content


def test_asking_to_be_a_developer_on_the_page(cast: Cast) -> None:
    client = browser(cast.analyst)
    assert client.post("/settings/developer", {"statement": ""}).status_code == 400
    answer = client.post("/settings/developer", {"statement": "roads"}, follow=True)
    assert b"has not decided yet" in answer.content
    assert Developer.objects.get(user=cast.analyst).statement == "roads"
    assert client.post("/settings/certificates", {"name": "x"}).status_code == 400
    assert not Certificate.objects.exists()


def downloads(answer: Any) -> dict[str, bytes]:
    found = re.findall(
        r'download="([^"]+)" href="data:[^,]+,([^"]+)"', html.unescape(answer.content.decode())
    )
    return {name: base64.b64decode(data) for name, data in found}


def test_a_certificate_with_its_files_is_shown_once(cast: Cast) -> None:
    client = browser(cast.developer)
    answer = client.post("/settings/certificates", {"name": "laptop", "password": "secret"})
    assert answer["Cache-Control"] == "no-store"
    files = downloads(answer)
    assert set(files) == {"certs.d.tar.gz", "client.cert", "client.pem", "client.p12", "ca.crt"}
    assert b"PRIVATE KEY" in files["client.pem"]
    key, certificate, _ = pkcs12.load_key_and_certificates(files["client.p12"], b"secret")
    assert key is not None
    assert certificate == x509.load_pem_x509_certificate(files["client.cert"])
    with tarfile.open(fileobj=io.BytesIO(files["certs.d.tar.gz"])) as tar:
        assert f"{settings.GRIDAPPS.authority}/client.key" in tar.getnames()
    page = client.get("/settings").content
    assert b"laptop" in page
    assert b"PRIVATE" not in page


def test_revoking_on_the_page(cast: Cast) -> None:
    browser(cast.developer).post("/settings/certificates", {"name": "laptop"})
    serial = Certificate.objects.get().serial
    assert browser(cast.outsider).post(f"/settings/certificates/{serial}/revoke").status_code == 404
    assert Certificate.objects.get().revoked_at is None
    browser(cast.developer).post(f"/settings/certificates/{serial}/revoke")
    assert Certificate.objects.get().revoked_at is not None


def test_forms_need_their_csrf_token(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True, headers={"Host": "localhost", "X-Forwarded-Proto": "https"})
    client.force_login(cast.developer)
    assert client.post("/settings/certificates", {"name": "laptop"}).status_code == 403
    assert not Certificate.objects.exists()


def test_an_application_of_ones_own(cast: Cast) -> None:
    client = browser(cast.analyst)
    answer = client.post(
        "/settings/applications", {"app_name": "robot", "kind": "machine", "scopes": ["api"]}
    )
    secret = re.findall(r'id="client-secret">([^<]+)<', answer.content.decode())[0]
    application = Application.objects.get(user=cast.analyst)
    assert application.client_secret != secret, "only its hash is stored"
    credentials = {"client_id": application.client_id, "client_secret": html.unescape(secret)}
    token = browser().post("/api/token", {"grant_type": "client_credentials"} | credentials)
    assert token.status_code == 200, token.content
    me = browser().get("/api/v3/me", headers={"Authorization": f"Bearer {token.json()['access_token']}"})
    assert me.json()["user"]["username"] == "analyst"
    assert browser(cast.outsider).post(f"/settings/applications/{application.pk}/delete").status_code == 404
    client.post(f"/settings/applications/{application.pk}/delete")
    assert not Application.objects.filter(user=cast.analyst).exists()
    gone = browser().get("/api/v3/me", headers={"Authorization": f"Bearer {token.json()['access_token']}"})
    assert gone.status_code == 401


@pytest.mark.parametrize(
    "address", ["", "http://example.org/", "javascript:alert(1)", "https://a/#x", "http://localhost/",
                "https://u@a/", "https://*.a/", "https://[", "x"]
)  # fmt: skip
def test_codes_travel_only_where_nobody_reads_them(cast: Cast, address: str) -> None:
    answer = browser(cast.analyst).post(
        "/settings/applications",
        {"app_name": "x", "kind": "public", "redirect_uris": address, "scopes": ["api"]},
    )
    assert answer.status_code == 400
    assert "redirect address" in answer.content.decode()
    assert 'role="alert">*' not in answer.content.decode()
    assert not Application.objects.filter(user=cast.analyst).exists()


@pytest.fixture
def ended(cast: Cast, app: App) -> Run:
    """A successful run of the developer with an output."""
    release = Release.objects.create(
        app=app, digest="sha256:" + "7" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip
    export = Export.objects.create(owner=cast.developer, name="city")
    file = ExportFile.objects.create(
        export=export, name="a.laz", path="a", size=1, sha256="", points=1, las_version="1.4", point_format=6,
        bounds=[], footprint=b"",
    )  # fmt: skip
    end = {"state": "SUCCESS", "ended_at": timezone.now(), "progress": 1}
    run = Run.objects.create(
        owner=cast.developer, release=release, export=export, arguments={}, cpus=1, memory=1, disk=1, time=1,
        **end,
    )  # fmt: skip
    task = Task.objects.create(
        run=run, owner=cast.developer, index=0, exportfile=file, attempt=1, queued_at=timezone.now(), **end
    )
    Output.objects.create(task=task, path="dtm.tif", size=1, sha256="0" * 64, media_type="image/tiff")
    return run


def test_the_page_of_a_run_shows_its_digest_whole(cast: Cast, ended: Run) -> None:
    page = browser(cast.developer).get(f"/runs/{ended.pk}").content.decode()
    assert f'<code class="digest">{ended.release.digest}</code>' in page


def test_every_output_is_reachable_on_the_page(cast: Cast, ended: Run) -> None:
    task = ended.tasks.get()
    made = [Output(task=task, path=f"tiles/{n:04}", size=1, sha256="", media_type="") for n in range(1000)]
    Output.objects.bulk_create(made)
    client, found = browser(cast.developer), set[str]()
    address: str | None = f"/runs/{ended.pk}"
    while address:
        text = client.get(address).content.decode()
        count = Output.objects.count()
        assert f">{count} outputs<" in text
        found.update(re.findall(r">(tiles/[0-9]{4})</a>", text))
        following = re.search(r'rel="next" href="([^"#]+)', text)
        address = f"/runs/{ended.pk}{following[1]}" if following else None
    assert found == {output.path for output in made}


def test_the_page_of_a_run_of_very_many_tasks_is_divided(cast: Cast, ended: Run) -> None:
    first = ended.tasks.get()
    made = [
        Task(
            run=ended, owner=ended.owner, index=index, exportfile=first.exportfile, queued_at=timezone.now(),
            attempt=1, state="FAILURE", ended_at=timezone.now(), reason="exit", reason_text="It failed." * 9,
        )
        for index in range(1, 10_000)
    ]  # fmt: skip
    Task.objects.bulk_create(made)
    outputs = [
        Output(task=first, path=f"tiles/{n:04}", size=1, sha256="", media_type="") for n in range(1000)
    ]
    Output.objects.bulk_create(outputs)
    client, found = browser(cast.developer), set[int]()
    text = client.get(f"/runs/{ended.pk}").content.decode()
    assert len(text) < 300_000
    assert re.search("(?=.*9999 FAILURE)(?=.*1 SUCCESS)", text)
    for number in (1, 2, 100):
        text = client.get(f"/runs/{ended.pk}?tasks={number}").content.decode()
        rows = [int(row) for row in re.findall('<tr data-task="([0-9]+)"', text)]
        assert f'data-tasks="{rows[0]}-{rows[-1]}"' in text
        found.update(rows)
    assert found == {*range(200), *range(9900, 10_000)}


def test_the_page_of_a_run_names_what_is_missing(cast: Cast, ended: Run) -> None:
    missing = {"path": "<b>\\xe4", "why": "has a name that is not UTF-8.", "lost": True}
    ended.tasks.update(left_out=[missing], left_out_count=150)
    text = browser(cast.developer).get(f"/runs/{ended.pk}").content.decode()
    assert "150 files could not be kept; the first 1:" in text
    assert "&lt;b&gt;\\xe4" in text
    assert "has a name that is not UTF-8." in text


def test_outputs_are_deleted_on_the_page(cast: Cast, ended: Run) -> None:
    client, path = browser(cast.developer), f"/runs/{ended.pk}/outputs/delete"
    assert f'<form method="post" action="{path}">' in client.get(f"/runs/{ended.pk}").content.decode()
    assert client.get(path).status_code == 405, "a link must not delete anything"
    assert browser(cast.outsider).post(path).status_code == 404
    careless = Client(enforce_csrf_checks=True, headers={"Host": "localhost", "X-Forwarded-Proto": "https"})
    careless.force_login(cast.developer)
    assert careless.post(path).status_code == 403
    assert Output.objects.exists()
    assert client.post(path)["Location"] == f"/runs/{ended.pk}"
    page = client.get(f"/runs/{ended.pk}").content.decode()
    assert f"were removed on {timezone.now():%Y-%m-%d}" in page
    assert "dtm.tif" not in page
    assert path not in page
    assert 'id="log"' not in page


def test_outputs_of_an_active_run_cannot_be_deleted_on_the_page(cast: Cast, ended: Run) -> None:
    Run.objects.update(state="RUNNING", ended_at=None)
    client, path = browser(cast.developer), f"/runs/{ended.pk}/outputs/delete"
    assert path not in client.get(f"/runs/{ended.pk}").content.decode()
    assert "has not ended yet" in client.post(path, follow=True).content.decode()
    assert Output.objects.exists()


def test_the_page_of_a_run_says_when_its_outputs_go(cast: Cast, ended: Run, settings: Any) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"keep_outputs": 30})
    assert ended.ended_at is not None
    page = browser(cast.developer).get(f"/runs/{ended.pk}").content.decode()
    assert f"will be removed on {ended.ended_at + timedelta(days=30):%Y-%m-%d}" in page


def test_a_user_renames_and_deletes_exports(cast: Cast) -> None:
    export = Export.objects.create(owner=cast.analyst, name="city")
    client = browser(cast.analyst)
    assert "city" in client.get("/exports").content.decode()
    page = client.post(f"/exports/{export.pk}/rename", {"name": "<i>River</i>"}, follow=True).content.decode()
    assert "&lt;i&gt;River&lt;/i&gt;" in page
    page = client.post(f"/exports/{export.pk}/rename", {"name": "\n"}, follow=True).content.decode()
    assert "An export needs a name of 1 to 200 printable characters." in page
    assert browser(cast.outsider).post(f"/exports/{export.pk}/delete").status_code == 404
    assert client.post("/exports/99999999999999999999/delete").status_code == 404
    page = client.post(f"/exports/{export.pk}/delete", follow=True).content.decode()
    assert "was deleted." in page
    assert "No exports yet." in page


def test_all_exports_can_be_reached(cast: Cast) -> None:
    Export.objects.bulk_create(Export(owner=cast.analyst, name=f"city {number}") for number in range(101))
    client = browser(cast.analyst)
    first, second = (client.get(f"/exports?page={page}").content.decode() for page in (1, 2))
    assert "101 exports, page 1 of 2." in first
    assert first.count("data-export=") + second.count("data-export=") == 101


def test_the_page_of_an_export_shows_its_files_with_remarks(cast: Cast) -> None:
    export = Export.objects.create(owner=cast.analyst, name="<b>city</b>")
    for name, remarks, code in (
        ("a.laz", ["The <i>header</i> is wrong."], "EPSG:25832"),
        ("b.laz", None, ""),
    ):
        ExportFile.objects.create(
            export=export, name=name, path=name, size=1, sha256="", points=1, las_version="1.4",
            point_format=6, bounds=[], footprint=b"", remarks=remarks, crs_code=code, crs_name=code and "UTM",
        )  # fmt: skip
    assert f'<a href="/exports/{export.pk}">&lt;b&gt;city' in browser(cast.analyst).get("/").content.decode()
    page = browser(cast.analyst).get(f"/exports/{export.pk}").content.decode()
    assert "<h1>&lt;b&gt;city&lt;/b&gt;</h1>" in page
    assert "EPSG:25832 UTM" in page
    assert "<li>The &lt;i&gt;header&lt;/i&gt; is wrong.</li>" in page
    assert page.count("<li>The ") == 1


@pytest.mark.parametrize("number", ["{own}", "0", "9223372036854775808", "9" * 100])
def test_an_export_of_another_user_looks_like_none(cast: Cast, number: str) -> None:
    export = Export.objects.create(owner=cast.analyst, name="city")
    assert browser(cast.outsider).get(f"/exports/{number.format(own=export.pk)}").status_code == 404


def test_the_page_of_a_large_export_is_divided(cast: Cast) -> None:
    export = Export.objects.create(owner=cast.analyst, name="city")
    ExportFile.objects.bulk_create(
        ExportFile(
            export=export, name=f"{index}.laz", path="", size=1, sha256="", points=1, las_version="1.4",
            point_format=6, bounds=[], footprint=b"",
        )
        for index in range(101)
    )  # fmt: skip
    first, second = (
        browser(cast.analyst).get(f"/exports/{export.pk}{page}").content for page in ("", "?page=2")
    )
    assert b"101 files" in first
    assert b"?page=2" in first
    assert b"100.laz" not in first
    assert b"100.laz" in second


def test_the_page_of_exports_shows_uploads_and_deletes_them(cast: Cast) -> None:
    (Path(settings.DATA) / "incoming").mkdir(exist_ok=True)
    files = [receiving.Announced(name="a.laz", size=2048)]
    upload = receiving.begin(by=cast.analyst, name="<b>River", files=files, skip_bad=False)
    client = browser(cast.analyst)
    page = client.get("/exports").content.decode()
    assert "&lt;b&gt;River" in page
    assert "2.0 KiB of 100.0 GiB are used" in page
    assert browser(cast.outsider).post(f"/uploads/{upload.pk}/delete").status_code == 404
    assert "River" not in client.post(f"/uploads/{upload.pk}/delete", follow=True).content.decode()


def test_pages_of_errors_say_what_is_wrong_and_lead_on(cast: Cast, settings: Any) -> None:
    client = browser(cast.developer)
    client.raise_request_exception = False
    many = client.post("/settings/developer", {f"f{n}": "" for n in range(1100)})
    settings.GRIDAPPS = None  # an internal error
    failed = client.get("/settings")
    for answer, status, sentence in (
        (many, 400, "has too many fields. Nothing was changed."),
        (failed, 500, "The instance made a mistake"),
        (client.get("/runs/nothing"), 404, "This page does not exist"),
    ):
        page = answer.content.decode()
        assert answer.status_code == status
        assert sentence in page
        assert '<a href="/">To your runs and Apps</a>' in page


def test_form_of_an_ended_session_leads_to_the_login(cast: Cast) -> None:
    """The token of the form is not that of the cookie, and the browser gets a page of ours."""
    client = Client(
        enforce_csrf_checks=True, headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"}
    )
    client.force_login(cast.developer)
    answer = client.post(
        "/settings/developer", {"statement": "x"}, headers={"Referer": settings.GRIDAPPS.origin}
    )
    assert answer.status_code == 403
    assert b"This page is out of date" in answer.content
    assert b"GRiD Apps" in answer.content
    assert answer["Content-Security-Policy"]
