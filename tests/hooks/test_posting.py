"""POSTs to real servers that behave badly, and to addresses that must not be reached."""

import socket
import time
from ipaddress import ip_network
from typing import Any

import pytest

from gridapps.hooks import targets
from gridapps.hooks.posting import NOT_REACHED, Outcome, Poster
from gridapps.hooks.targets import Rules
from tests.hooks.receiver import Receiver, receiving

LOOPBACK = Rules(networks=(ip_network("127.0.0.1/32"),), http=True)


@pytest.fixture
def poster(receiver: Receiver) -> Poster:
    return Poster(rules=LOOPBACK, timeout=1.0, ca=receiver.ca)


def post(poster: Poster, target: str) -> Outcome:
    return poster.post(target, headers={"Content-Type": "application/json"}, body=b"{}")


def test_what_is_posted_arrives_with_the_name_that_was_asked_for(receiver: Receiver, poster: Poster) -> None:
    assert post(poster, receiver.url("/ok?x=1")) == Outcome(200)
    (request,) = receiver.requests
    assert (request.path, request.body) == ("/ok?x=1", b"{}")
    assert request.headers["Host"] == f"localhost:{receiver.port}"


def test_no_redirect_is_followed(receiver: Receiver, poster: Poster) -> None:
    outcome = post(poster, receiver.url("/redirect"))
    assert outcome.status == 307
    assert "redirect" in outcome.error
    assert len(receiver.requests) == 1


def test_an_endless_answer_is_left(receiver: Receiver, poster: Poster) -> None:
    assert post(poster, receiver.url("/endless")) == Outcome(200)


def test_a_header_that_never_ends_is_given_up_in_time(receiver: Receiver, poster: Poster) -> None:
    began = time.monotonic()
    outcome = post(poster, receiver.url("/drops"))
    assert 0.9 < time.monotonic() - began < 30
    assert outcome.status is None
    assert "within 1 s" in outcome.detail


def test_a_silent_server_is_given_up_in_time(poster: Poster) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        outcome = post(poster, f"https://localhost:{silent.getsockname()[1]}/")
    assert outcome.status is None
    assert time.monotonic() - began < 30


def test_an_unknown_authority_is_not_trusted(receiver: Receiver) -> None:
    outcome = post(Poster(rules=LOOPBACK, timeout=2), receiver.url())
    assert outcome.status is None
    assert "certificate" in outcome.detail
    assert receiver.requests == []


def test_a_certificate_of_another_name_is_not_trusted(
    receiver: Receiver, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, {"elsewhere.example": ["127.0.0.1"]})
    assert "certificate" in post(poster, receiver.url(host="elsewhere.example")).detail
    assert receiver.requests == []


def test_what_is_no_http_is_an_outcome(receiver: Receiver, poster: Poster) -> None:
    assert "not HTTP" in post(poster, receiver.url("/nonsense")).detail
    assert "refused the connection" in post(poster, "https://localhost:1/").detail


def resolve(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Replace the resolver's answers, one address for each query; the queries."""
    real, asked = socket.getaddrinfo, []

    def resolver(host: Any, *rest: Any, **more: Any) -> Any:
        if host in names:
            asked.append(host)
            host = names[host].pop(0) if len(names[host]) > 1 else names[host][0]
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return asked


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f000001", "0", "localhost", "[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_this_machine_is_not_reached_however_it_is_written(receiver: Receiver, host: str) -> None:
    outcome = post(Poster(rules=Rules(http=True), timeout=1.0), f"http://{host}:{receiver.port}/")
    assert outcome.detail == "It leads to an address that hooks must not reach."
    assert receiver.requests == []


def test_a_name_that_changes_its_mind_is_followed_to_where_it_was_judged(
    authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(authority, address="127.0.0.2", tls=False) as allowed:
        rules = Rules(networks=(ip_network("127.0.0.2/32"),), http=True)
        # First a public address, then this machine: DNS rebinding.
        asked = resolve(monkeypatch, {"rebind.example": ["127.0.0.2", "127.0.0.1"]})
        target = allowed.url(host="rebind.example")
        assert post(Poster(rules=rules, timeout=1.0), target) == Outcome(200)
        assert asked == ["rebind.example"]
        assert allowed.requests[0].headers["Host"] == f"rebind.example:{allowed.port}"
        assert "must not reach" in post(Poster(rules=rules, timeout=1.0), target).detail
        assert len(allowed.requests) == 1


def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(poster, receiver.url()) == Outcome(200)


def test_errors_do_not_tell_what_is_on_the_networks_here(
    receiver: Receiver, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(
        monkeypatch,
        {"printer.internal": ["10.1.2.3"], "here.internal": ["127.0.0.1"], "mixed.internal": ["127.0.0.1"]},
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        outcomes = {
            target: post(poster, target)
            for target in (
                "https://none.invalid/",  # does not resolve
                "https://printer.internal/",  # is refused
                "https://here.internal:1/",  # refuses the connection
                receiver.url(host="here.internal"),  # has a certificate of another name
                receiver.url("/nonsense"),
                receiver.url("/drops"),
                f"https://here.internal:{silent.getsockname()[1]}/",
            )
        }
    assert {outcome.error for outcome in outcomes.values()} == {NOT_REACHED}
    assert len({outcome.detail for outcome in outcomes.values()}) >= 5, "the log shows the difference"


def test_what_fails_in_public_is_told(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    monkeypatch.setattr(targets, "_NOT_PUBLIC_4", ())
    poster = Poster(rules=Rules(), timeout=1.0, ca=receiver.ca)
    resolve(monkeypatch, {"elsewhere.example": ["127.0.0.1"]})
    assert "certificate" in post(poster, receiver.url(host="elsewhere.example")).error
    assert "refused the connection" in post(poster, "https://elsewhere.example:1/").error
    assert "within 1 s" in post(poster, receiver.url("/drops")).error
