"""`merino doctor` before certificates: each kind of bad one is told apart."""

from __future__ import annotations

import socket
import threading

import pytest
from tests.fake_server import Authority, fake_server

KEY = "mk-Zm9vYmFyYmF6cXV4MTIzNDU2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ({}, set()),
        ({"days": (-3, -1)}, {"tls-expired"}),
        ({"days": (1, 3)}, {"tls-expired"}),
        ({"address": "127.0.0.2"}, {"tls-wrong-name"}),
        ({"is_self_signed": True}, {"tls-self-signed"}),
    ],
)
def test_certificates(doctor, authority, certificate, expected) -> None:
    """With an authority that is trusted, what is left is the certificate's own."""
    with fake_server(certificate=authority.issue("server", **certificate)) as server:
        seen = doctor(
            *("--base-url", f"{server.address}/v1", "--api-key", KEY),
            SSL_CERT_FILE=authority.ca_file,
        )

    assert expected == seen.problems
    assert ("ok" if not expected else None) == seen.found.get("key")
    assert (2 if not expected else 0) == len(server.seen)


def test_a_certificate_behind_a_proxy(doctor, authority) -> None:
    """The server is reached by a tunnel, and its certificate judged all the same."""
    certificate = authority.issue("server", address="127.0.0.2")
    with fake_server(certificate=certificate) as server, fake_server() as proxy:
        port = server.server_address[1]
        options = {"HTTPS_PROXY": proxy.address, "SSL_CERT_FILE": authority.ca_file}
        near = doctor("--base-url", f"{server.address}/v1", "--api-key", KEY, **options)
        # A name that is neither local nor looked up here: the proxy does that.
        proxy.names["relay.example"] = "127.0.0.1"
        far = doctor("--base-url", f"https://relay.example:{port}/v1", "--api-key", KEY, **options)

    assert {"proxy-catches-local", "tls-wrong-name"} == near.problems
    assert {"tls-wrong-name"} == far.problems
    assert [("CONNECT", f"relay.example:{port}", None)] == proxy.seen
    assert [] == server.seen


def test_an_authority_nobody_trusts(doctor, authority) -> None:
    """The chain ends at somebody unknown; nothing is sent."""
    with fake_server(certificate=authority.issue("server")) as server:
        seen = doctor("--base-url", f"{server.address}/v1", "--api-key", KEY)

    assert {"tls-untrusted"} == seen.problems
    assert [] == server.seen


def test_a_file_of_authorities_that_is_not_there(doctor, tmp_path) -> None:
    """A variable that points nowhere is a finding, not the end."""
    seen = doctor(
        *("--base-url", "https://127.0.0.1:9/v1", "--api-key", KEY),
        SSL_CERT_FILE=tmp_path / "none.pem",
    )

    assert (1, {"tls"}) == (seen.code, seen.problems)


def test_https_to_a_plain_port_and_the_reverse(doctor, authority) -> None:
    """The scheme is what must be mended, either way."""
    with fake_server() as plain, fake_server(certificate=authority.issue("server")) as secured:
        to_plain = doctor(
            "--base-url", f"{plain.address}/v1".replace("http:", "https:"), "--api-key", KEY
        )
        to_tls = doctor(
            "--base-url", f"{secured.address}/v1".replace("https:", "http:"), "--api-key", KEY
        )

    assert {"scheme-mismatch"} == to_plain.problems
    assert {"scheme-mismatch"} == to_tls.problems
    assert [] == secured.seen


def test_a_handshake_that_breaks_off(doctor) -> None:
    """What is wrong with neither name nor certificate is still told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = listener.getsockname()[1]
        seen = doctor("--base-url", f"https://127.0.0.1:{port}/v1", "--api-key", KEY)
        thread.join(10)

    assert {"tls"} == seen.problems
