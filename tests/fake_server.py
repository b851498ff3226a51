"""Small servers that answer as they are told, over loopback, plain or with a certificate."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import selectors
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.authority import SIGNS_CERTIFICATES

MODELS = {"object": "list", "data": [{"id": "o3", "object": "model"}]}


class FakeServer(ThreadingHTTPServer):
    """`answers` are status and body by path; anything else is a 404 page. `seen` are the requests:
    method, path, Authorization. As a proxy it finds hosts in `names`."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, Any]], ahead_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.ahead_s = ahead_s
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.scheme = "http"
        self.names: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        server = self.server
        server.seen.append((self.command, self.path, self.headers.get("authorization")))
        status, body = server.answers.get(self.path, (404, "<html>nothing here</html>"))
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(raw)
        self.close_connection = True

    def do_CONNECT(self) -> None:
        """A tunnel to whatever it is told, on this machine."""
        host, _, port = self.path.partition(":")
        self.server.seen.append((self.command, self.path, None))
        address = (self.server.names.get(host, host), int(port))
        with socket.create_connection(address, timeout=10) as far:
            self.send_response(200)
            self.end_headers()
            with selectors.DefaultSelector() as ready:
                ready.register(far, selectors.EVENT_READ, self.connection)
                ready.register(self.connection, selectors.EVENT_READ, far)
                while True:
                    for key, _ in ready.select(10):
                        data = cast("socket.socket", key.fileobj).recv(65_536)
                        if not data:
                            self.close_connection = True
                            return
                        key.data.sendall(data)

    do_POST = do_GET  # noqa: N815 - what http.server looks for

    def date_time_string(self, timestamp: float | None = None) -> str:
        now_s = dt.datetime.now(dt.UTC).timestamp()
        return formatdate(now_s + self.server.ahead_s, usegmt=True)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def fake_server(
    answers: dict[str, tuple[int, Any]] | None = None,
    *,
    ahead_s: float = 0.0,
    certificate: Path | None = None,
) -> Generator[FakeServer]:
    """An OpenAI-compatible server unless told otherwise, its clock `ahead_s` ahead of ours."""
    server = FakeServer({"/v1/models": (200, MODELS)} if answers is None else answers, ahead_s)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextlib.contextmanager
def full_server() -> Iterator[int]:
    """A port whose queue of connections is full: it neither accepts nor refuses more."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@dataclass(frozen=True)
class Authority:
    """Signs certificates; `ca_file` is its own."""

    folder: Path
    ca_file: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("test authority")
        certificate = (
            _dated(name, name, key, days=(-10, 10))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(SIGNS_CERTIFICATES, critical=True)
            .add_extension(_key_id(key), critical=False)
            .sign(key, hashes.SHA256())
        )
        ca_file = folder / "authority.pem"
        ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, ca_file, key, certificate)

    def issue(
        self,
        file: str,
        *,
        address: str = "127.0.0.1",
        days: tuple[int, int] = (-1, 1),
        is_self_signed: bool = False,
    ) -> Path:
        """A key and its certificate in one file, valid from and until so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(file)
        issuer, signer = (name, key) if is_self_signed else (self.certificate.subject, self.key)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = (
            _dated(name, issuer, key, days=days)
            .add_extension(names, critical=False)
            # Python 3.13 takes no certificate without it.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
            .sign(signer, hashes.SHA256())
        )
        path = self.folder / f"{file}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path


def _key_id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _dated(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    days: tuple[int, int],
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    begin, end = (now + dt.timedelta(days=each) for each in days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
