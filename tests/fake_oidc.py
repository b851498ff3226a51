"""A small OpenID Connect provider over real sockets: discovery, authorization, tokens, keys, userinfo.

It keeps state as a real one does: a code is for one client, one redirect URI, one PKCE challenge and
one use; keys can be rotated. Written after OpenID Connect Core and Discovery 1.0, RFC 6749 and RFC
7636; only what a relay uses. `person` is who sits before the browser. Everything else is there to be
wrong on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import ssl
import threading
import time
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CLIENT_ID = "relay client"
CLIENT_SECRET = "s3cret: of the client"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SigningKey:
    """An RSA key under an id."""

    def __init__(self, key_id: str) -> None:
        self.id = key_id
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def public(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.id,
            "n": encoded(numbers.n.to_bytes(256, "big")),
            "e": encoded(numbers.e.to_bytes(3, "big")),
        }

    def sign(self, text: bytes) -> bytes:
        return self.private.sign(text, padding.PKCS1v15(), hashes.SHA256())


class CurveKey:
    """A P-256 key under an id."""

    def __init__(self, key_id: str) -> None:
        self.id = key_id
        self.private = ec.generate_private_key(ec.SECP256R1())

    def public(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        x, y = (encoded(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
        return {"kty": "EC", "use": "sig", "kid": self.id, "crv": "P-256", "x": x, "y": y}

    def sign(self, text: bytes) -> bytes:
        signature = self.private.sign(text, ec.ECDSA(hashes.SHA256()))
        return b"".join(each.to_bytes(32, "big") for each in decode_dss_signature(signature))


class FakeOidc:
    """`with FakeOidc() as provider:` serves at `provider.url`, which is its issuer; with `tls` over
    HTTPS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.keys = [SigningKey("first")]
        self.curve_key = CurveKey("curve")
        self._lock = threading.Lock()
        self.codes: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.given: set[str] = set()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.reset()

    def reset(self) -> None:
        """As it should be."""
        self.person: dict[str, Any] = {
            "sub": "248289761001",
            "email": "anna@example.org",
            "email_verified": True,
        }
        self.refuses: str | None = None
        """The error that authorization answers with."""
        self.is_down = False
        self.claims: dict[str, Any] = {}
        """Written over those of the ID token; `None` leaves one out."""
        self.only_userinfo: tuple[str, ...] = ()
        """Claims that the ID token does not have."""
        self.userinfo: dict[str, Any] = {}
        self.signs_as = "RS256"
        """Or `ES256`; or `none`, `HS256`, `broken`, `stranger`."""
        self.metadata: dict[str, Any] = {}
        self.answer_as: tuple[int, bytes] | None = None
        """What every request is answered with."""

    def rotate(self) -> None:
        """A new key signs, and the old one is gone."""
        self.keys = [SigningKey(f"key {secrets.token_hex(4)}")]

    def __enter__(self) -> Self:
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                self._answer({name: values[0] for name, values in parse_qs(body).items()})

            def _answer(self, form: dict[str, str]) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                with fake._lock:
                    fake.requests.append((self.command, parts.path, {**query, **form}))
                    status, headers, body = fake.answer(
                        parts.path, query, form, self.headers.get("authorization", "")
                    )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if self.tls is not None:
            scheme = "https"
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- endpoints --------------------------------------------------------------------------------

    def answer(
        self, path: str, query: dict[str, str], form: dict[str, str], authorization: str
    ) -> tuple[int, dict[str, str], bytes]:
        if self.is_down:
            return 503, {}, b"down"
        if self.answer_as is not None:
            return self.answer_as[0], {}, self.answer_as[1]
        if path == "/authorize":
            return self._authorize(query)
        if path == "/end_session":
            assert query["id_token_hint"] in self.given
            return 302, {"location": query["post_logout_redirect_uri"]}, b""
        endpoint = {
            "/.well-known/openid-configuration": lambda: (200, self._discovery()),
            "/jwks": lambda: (
                200,
                {"keys": [key.public() for key in (*self.keys, self.curve_key)]},
            ),
            "/token": lambda: self._token(form, authorization),
            "/userinfo": lambda: self._userinfo(authorization),
        }.get(path, lambda: (404, {}))
        status, told = endpoint()
        return status, {"content-type": "application/json"}, json.dumps(told).encode()

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "end_session_endpoint": f"{self.url}/end_session",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            **self.metadata,
        }

    def _authorize(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        assert ("code", CLIENT_ID) == (query["response_type"], query["client_id"])
        assert "S256" == query["code_challenge_method"]
        assert "openid" in query["scope"].split()
        answered = {"state": query["state"], "iss": self.url}
        if self.refuses:
            answered["error"] = self.refuses
        else:
            answered["code"] = code = secrets.token_urlsafe(16)
            self.codes[code] = query
        return 302, {"location": f"{query['redirect_uri']}?{urlencode(answered)}"}, b""

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        kind, _, pair = authorization.partition(" ")
        client_id, _, secret = base64.b64decode(pair).decode().partition(":")
        given = (unquote_plus(client_id), unquote_plus(secret))
        if "client_secret" in form:
            kind, given = "Basic", (form["client_id"], form["client_secret"])
        if kind != "Basic" or given != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if encoded(digest) != asked["code_challenge"]:
            return 400, {"error": "invalid_grant", "error_description": "PKCE"}
        access = secrets.token_urlsafe(16)
        self.tokens[access] = {**self.person, **self.userinfo}
        half = hashlib.sha256(access.encode()).digest()[:16]
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "at_hash": encoded(half),
            **{name: each for name, each in self.person.items() if name not in self.only_userinfo},
            **self.claims,
        }
        claims = {name: each for name, each in claims.items() if each is not None}
        id_token = self._signed(claims)
        self.given.add(id_token)
        return 200, {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": id_token,
        }

    def _userinfo(self, authorization: str) -> tuple[int, dict[str, Any]]:
        told = self.tokens.get(authorization.removeprefix("Bearer "))
        return (401, {"error": "invalid_token"}) if told is None else (200, told)

    def _signed(self, claims: dict[str, Any]) -> str:
        key: SigningKey | CurveKey = self.keys[0]
        if self.signs_as == "stranger":
            key = SigningKey(key.id)
        elif self.signs_as == "ES256":
            key = self.curve_key
        algorithm = self.signs_as if self.signs_as in ("none", "HS256", "ES256") else "RS256"
        header = {"alg": algorithm, "kid": key.id, "typ": "JWT"}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        if algorithm == "none":
            return f"{text}."
        if algorithm == "HS256":
            # The old trick: the public key's bytes taken as a shared secret.
            modulus = self.keys[0].public()["n"].encode()
            return f"{text}.{encoded(hmac.digest(modulus, text.encode(), 'sha256'))}"
        signature = key.sign(text.encode())
        if self.signs_as == "broken":
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        return f"{text}.{encoded(signature)}"
