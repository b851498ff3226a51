"""Proxies from the environment, and what they must not catch."""

from __future__ import annotations

import socket

import pytest
from tests.loopback import Swallowing

from merino.doctor.network import Place, connect
from merino.doctor.proxy import check_proxy, check_relays_proxy, is_local, proxy_of
from merino.settings.proxies import Proxy

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("base_url", "environ", "expected"),
    [
        ("http://relay.example/v1", {}, None),
        ("http://relay.example/v1", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("https://relay.example/v1", {"HTTP_PROXY": PROXY}, None),
        ("https://relay.example/v1", {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ("https://relay.example/v1", {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ("http://relay.example/v1", {"HTTP_PROXY": PROXY, "http_proxy": PROXY}, "http_proxy"),
        ("http://relay.example/v1", {"http_proxy": PROXY, "HTTP_PROXY": PROXY}, "http_proxy"),
        ("http://relay.example/v1", {"HTTP_PROXY": " "}, None),
        ("http://relay.example/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("http://relay.example/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "a, .example"}, None),
        ("http://relay.example/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "relay.example"}, None),
        ("http://relay.example/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "other"}, "HTTP_PROXY"),
        ("http://127.0.0.1:80/v1", {"HTTP_PROXY": PROXY, "no_proxy": "127.0.0.1:80"}, None),
        ("http://[::1]:80/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "::1"}, None),
    ],
)
def test_which_proxy_a_client_takes(base_url, environ, expected) -> None:
    """By the URL's scheme, unless NO_PROXY names the host; small letters win."""
    found = proxy_of(base_url, environ)

    assert expected == (found and found.variable)


@pytest.mark.parametrize(
    ("base_url", "url", "expected"),
    [
        ("http://127.0.0.1:8080/v1", PROXY, ("proxy-catches-local", "problem")),
        ("http://localhost:8080/v1", PROXY, ("proxy-catches-local", "problem")),
        ("http://10.1.2.3:8080/v1", PROXY, ("proxy-catches-local", "problem")),
        ("http://relay:8080/v1", PROXY, ("proxy-catches-local", "problem")),
        ("https://relay.example/v1", PROXY, ("proxy", "warning")),
        ("https://relay.example/v1", "socks5://proxy:1080", ("proxy", "problem")),
        ("https://relay.example/v1", "ftp://proxy", ("proxy", "problem")),
        ("https://relay.example/v1", "http://proxy:port", ("proxy", "problem")),
    ],
)
def test_what_a_proxy_does_to_a_server(base_url, url, expected) -> None:
    """It must leave local servers alone and be one that clients can use."""
    (found,) = check_proxy(base_url, Proxy(url, "HTTP_PROXY"))

    assert expected == (found.id, found.severity)


def test_a_proxys_password_is_not_shown() -> None:
    """The variable's value may carry one."""
    (found,) = check_proxy(
        "https://relay.example/v1", Proxy("http://me:pw12@proxy:1", "HTTPS_PROXY")
    )

    assert "pw12" not in found.seen
    assert ("proxy", 1) == (Proxy("http://me:pw12@proxy:1", "").host, 1)


def test_no_proxy_is_fine() -> None:
    """Most programs have none."""
    assert ["ok"] == [each.severity for each in check_proxy("http://127.0.0.1/v1", None)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", True), ("192.168.0.9", True), ("db.internal", True), ("8.8.8.8", False)],
)
def test_what_is_local(host, expected) -> None:
    """Addresses of this machine and of private networks."""
    assert expected == is_local(host)


@pytest.mark.parametrize(
    ("url", "severity"),
    [(PROXY, "warning"), ("https://proxy.example", "problem"), ("socks5://me:pw12@p", "problem")],
)
def test_the_relay_speaks_less_than_clients_do(url, severity) -> None:
    """Its own way to a provider is a problem where a client's would be none."""
    (found,) = check_relays_proxy("https://llm.example/v1", Proxy(url, "ALL_PROXY"))

    assert severity == found.severity
    assert "pw12" not in found.seen


def test_one_dead_address_does_not_hide_the_others() -> None:
    """Each address has its share of the time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with Swallowing(port):
            place = Place("dual.test", port, is_tls=False)
            connection, found = connect(place, ["::1", "127.0.0.1"], 0.4)
    assert connection is not None
    connection.close()
    assert "ok" == found.severity
