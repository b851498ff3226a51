"""An OpenID Connect provider: where to send people, and who it says came back.

Authorization code flow with PKCE. Everything the provider sends is checked here; who may do what is
`identity.py`'s affair, and pages are `oidc_entrance.py`'s.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# Authlib has no types.
from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any, cast
from urllib.parse import quote_plus, urlencode

import httpx2

from merino.dashboard.identity import Identity, NotIdentified, claim_at, identity_of
from merino.dashboard.sessions import PendingSignIn
from merino.domain.errors import Misconfigured
from merino.settings.oidc_checks import is_https_or_local
from merino.settings.sections.dashboard import OidcSettings

TIMEOUT_S = 10.0
LEEWAY_S = 60
"""How far the provider's clock may be from ours."""
METADATA_S = 3600.0
RETRY_S = 3.0
"""How long a provider that said nothing of use is not asked again: anybody can begin a sign-in."""
ANSWER_BYTES_MAX = 1024 * 1024
_TOKEN_LENGTH_MAX = 64 * 1024
_ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
}
"""What a signature may be made with, and the kind of key for it. Nothing with a shared secret, and
never `none`."""
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")


class SignInFailed(Exception):
    """`args[0]` is for the person, `reason` for the log; neither has a secret in it."""

    def __init__(self, message: str, reason: str = "", status: int = 403) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or message
        self.status = status

    @property
    def told(self) -> tuple[str, str, int]:
        return self.message, self.reason, self.status


class OidcProvider:
    """Nothing is asked of it before somebody signs in; what it said is kept for an hour."""

    def __init__(
        self,
        settings: OidcSettings,
        client_secret: str,
        clock: Callable[[], float] = monotonic,
        now_s: Callable[[], float] = time,
    ) -> None:
        try:
            from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
            from authlib.oauth2.rfc7636 import create_s256_code_challenge
            from authlib.oidc.core import CodeIDToken
            from authlib.oidc.discovery import get_well_known_url
            from joserfc import jwk, jwt
            from joserfc.errors import BadSignatureError, JoseError
        except ImportError:
            raise Misconfigured(
                "[dashboard.oidc] needs Authlib; pip install 'merino[oidc]'"
            ) from None
        self.settings = settings
        self._secret = client_secret
        self._clock = clock
        self._now_s = now_s
        self._grant_uri: Any = prepare_grant_uri
        self._challenge: Any = create_s256_code_challenge
        self._id_token: Any = CodeIDToken
        self._well_known: str = cast("Any", get_well_known_url)(settings.issuer, external=True)
        self._jwk, self._jwt = jwk, jwt
        self._bad_signature, self._jose_error = BadSignatureError, JoseError
        self._tls: ssl.SSLContext | None = None
        self._metadata: dict[str, Any] = {}
        self._metadata_until = 0.0
        self._asking = asyncio.Lock()
        self._failure: SignInFailed | None = None
        self._failed_until = 0.0
        self._keys: list[Any] = []

    @property
    def name(self) -> str:
        return self.settings.name

    async def begin(self, redirect_uri: str) -> tuple[str, PendingSignIn]:
        """Where the browser shall go, and what to remember until it comes back. Raises
        `SignInFailed`."""
        metadata = await self._discover()
        pending = PendingSignIn(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=redirect_uri,
        )
        url: str = self._grant_uri(
            metadata["authorization_endpoint"],
            client_id=self.settings.client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=" ".join(self.settings.scopes),
            state=pending.state,
            nonce=pending.nonce,
            code_challenge=self._challenge(pending.verifier),
            code_challenge_method="S256",
        )
        return url, pending

    async def finish(
        self, pending: PendingSignIn, answered: Mapping[str, str], sign_out_to: str
    ) -> tuple[Identity, str]:
        """Who came back, and where to sign them out at the provider (nowhere: an empty text).
        Raises `SignInFailed`."""
        if error := answered.get("error"):
            raise SignInFailed(f"{self.name} did not sign you in ({_safe(error)}).")
        metadata = await self._discover()
        issuer = answered.get("iss")
        must_tell = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer != self.settings.issuer and (issuer is not None or must_tell):
            raise self._refused("the answer is another provider's")
        code = answered.get("code", "")
        if not code:
            raise self._refused("the answer has no code")
        tokens = await self._redeem(metadata, code, pending)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or len(id_token) > _TOKEN_LENGTH_MAX:
            raise self._refused("the token endpoint gave no ID token")
        if not isinstance(access_token, str):
            access_token = ""
        claims = await self._verified(metadata, id_token, pending.nonce, access_token)
        claims = await self._completed(metadata, claims, access_token)
        try:
            return identity_of(claims, self.settings), self._sign_out_url(
                metadata, id_token, sign_out_to
            )
        except NotIdentified as error:
            raise SignInFailed(f"You were not signed in: {error}.") from None

    # -- what the provider says -------------------------------------------------------------------

    async def _discover(self) -> dict[str, Any]:
        async with self._asking:
            if self._clock() < self._metadata_until:
                return self._metadata
            if self._failure is not None and self._clock() < self._failed_until:
                raise SignInFailed(*self._failure.told)
            try:
                return await self._ask_metadata()
            except SignInFailed as failure:
                self._failure, self._failed_until = failure, self._clock() + RETRY_S
                raise

    async def _ask_metadata(self) -> dict[str, Any]:
        _, metadata = await self._ask("GET", self._well_known)
        if metadata.get("issuer") != self.settings.issuer:
            raise self._misconfigured(
                f"it calls itself {str(metadata.get('issuer'))[:200]!r}; write that as the issuer"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(metadata.get(name), str) or not is_https_or_local(metadata[name]):
                raise self._misconfigured(f"its {name} is missing or not https")
        self._metadata, self._keys = metadata, []
        self._metadata_until = self._clock() + METADATA_S
        return metadata

    async def _redeem(
        self, metadata: Mapping[str, Any], code: str, pending: PendingSignIn
    ) -> dict[str, Any]:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.redirect_uri,
            "code_verifier": pending.verifier,
        }
        headers: dict[str, str] = {}
        client_id = self.settings.client_id
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if not self._secret:
            fields["client_id"] = client_id
        elif "client_secret_basic" not in methods and "client_secret_post" in methods:
            fields |= {"client_id": client_id, "client_secret": self._secret}
        else:
            pair = f"{quote_plus(client_id)}:{quote_plus(self._secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        status, tokens = await self._ask(
            "POST", metadata["token_endpoint"], data=fields, headers=headers, refusals=(400, 401)
        )
        if status != 200:
            error = _safe(tokens.get("error"))
            if error == "invalid_client" or status == 401:
                raise self._misconfigured(f"it refuses the relay's client id or secret ({error})")
            raise self._refused(f"the token endpoint refuses the code ({error})")
        return tokens

    async def _verified(
        self, metadata: Mapping[str, Any], id_token: str, nonce: str, access_token: str
    ) -> dict[str, Any]:
        """The claims of an ID token that is the provider's, for us, for this sign-in, and fresh."""
        allowed = set(_ALGORITHMS)
        if isinstance(offered := metadata.get("id_token_signing_alg_values_supported"), list):
            allowed &= {each for each in cast("list[Any]", offered) if isinstance(each, str)}
        header = _header(id_token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in allowed:
            raise self._refused(f"its ID token is signed with {_safe(algorithm)}")
        token = self._decoded(id_token, header, algorithm) if self._keys else None
        if token is None:
            # The keys are not known yet, or it has changed them.
            self._keys = await self._fetch_keys(metadata)
            token = self._decoded(id_token, header, algorithm)
        if token is None:
            raise self._refused("its ID token is not signed with one of its keys")
        claims = self._id_token(
            token.claims,
            token.header,
            {
                "iss": {"essential": True, "value": self.settings.issuer},
                "aud": {"essential": True, "value": self.settings.client_id},
                "sub": {"essential": True},
            },
            {
                "nonce": nonce,
                "client_id": self.settings.client_id,
                "access_token": access_token,
            },
        )
        try:
            claims.validate(now=int(self._now_s()), leeway=LEEWAY_S)
        except (self._jose_error, ValueError, TypeError) as error:
            raise self._refused(f"its ID token is not valid: {str(error)[:200]}") from None
        return dict(claims)

    def _decoded(self, id_token: str, header: Mapping[str, Any], algorithm: str) -> Any:
        """The token, if one of the known keys has signed it."""
        key_id = header.get("kid")
        for key in self._keys:
            if key.key_type != _ALGORITHMS[algorithm] or key.get("use", "sig") != "sig":
                continue
            if key_id is not None and key.get("kid") != key_id:
                continue
            try:
                return self._jwt.decode(id_token, key, algorithms=[algorithm])
            except self._bad_signature:
                continue
            except (self._jose_error, ValueError) as error:
                raise self._refused(f"its ID token cannot be read: {str(error)[:200]}") from None
        return None

    async def _fetch_keys(self, metadata: Mapping[str, Any]) -> list[Any]:
        _, answer = await self._ask("GET", metadata["jwks_uri"])
        listed = answer.get("keys")
        keys: list[Any] = []
        for each in cast("list[Any]", listed) if isinstance(listed, list) else []:
            if not isinstance(each, dict) or cast("Any", each).get("kty") not in ("RSA", "EC"):
                continue
            try:
                keys.append(self._jwk.import_key(cast("Any", each)))
            except (self._jose_error, ValueError, KeyError, TypeError):
                continue  # one that we cannot read is none that we trust
        return keys

    async def _completed(
        self, metadata: Mapping[str, Any], claims: dict[str, Any], access_token: str
    ) -> dict[str, Any]:
        """With what only the userinfo endpoint tells, if anything is missing that is needed."""
        settings = self.settings
        wanted = {settings.claim, settings.account_claim} - {""}
        if settings.operator_groups or any(
            each.owner_groups or each.viewer_groups for each in settings.accounts.values()
        ):
            wanted.add(settings.groups_claim)
        if settings.claim == "email":
            wanted.add("email_verified")
        endpoint = metadata.get("userinfo_endpoint")
        if all(claim_at(claims, each) is not None for each in wanted) or not access_token:
            return claims
        if not isinstance(endpoint, str) or not is_https_or_local(endpoint):
            return claims
        headers = {"authorization": f"Bearer {access_token}"}
        status, told = await self._ask("GET", endpoint, headers=headers, refusals=(401, 403))
        if status != 200:
            return claims
        if told.get("sub") != claims["sub"]:
            raise self._refused("its userinfo endpoint tells of somebody else")
        completed = {**told, **claims}
        if "email_verified" not in claims and "email" in told:
            # What is verified is the address beside it.
            completed["email"] = told["email"]
        return completed

    def _sign_out_url(self, metadata: Mapping[str, Any], id_token: str, back_to: str) -> str:
        endpoint = metadata.get("end_session_endpoint")
        if not isinstance(endpoint, str) or not is_https_or_local(endpoint):
            return ""
        fields = {
            "id_token_hint": id_token,
            "client_id": self.settings.client_id,
            "post_logout_redirect_uri": back_to,
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(fields)}"

    # -- asking it --------------------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        refusals: tuple[int, ...] = (),
    ) -> tuple[int, dict[str, Any]]:
        """A JSON object, with status 200 or one of `refusals`. Raises `SignInFailed`."""
        headers = {"accept": "application/json", "user-agent": "merino", **(headers or {})}
        try:
            if self._tls is None:
                self._tls = await asyncio.to_thread(self._tls_context)
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx2.AsyncClient(
                    verify=self._tls,
                    timeout=TIMEOUT_S,
                    # A proxy is for what is elsewhere.
                    trust_env=url.startswith("https:"),
                ) as client,
                client.stream(method, url, data=data, headers=headers) as answer,
            ):
                status, body = answer.status_code, b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        raise self._unreachable(f"its answer at {url} is too large")
        except TimeoutError:
            raise self._unreachable(f"no answer from {url} within {TIMEOUT_S:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._unreachable(f"{url}: {type(error).__name__}: {str(error)[:200]}") from None
        if status != 200 and status not in refusals:
            raise self._unreachable(f"{url}: status {status}")
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            if status != 200:
                return status, {}
            raise self._unreachable(f"{url}: no JSON object")
        return status, cast("dict[str, Any]", told)

    def _tls_context(self) -> ssl.SSLContext:
        if self.settings.ca_file is not None:
            return ssl.create_default_context(cafile=str(self.settings.ca_file))
        return httpx2.create_ssl_context()

    def _unreachable(self, reason: str) -> SignInFailed:
        self._metadata_until = 0.0  # it may have moved
        message = f"{self.name} cannot be reached now. Try again, or sign in with a key."
        return SignInFailed(message, reason, 502)

    def _misconfigured(self, reason: str) -> SignInFailed:
        message = (
            f"Sign-in with {self.name} is set up wrongly; the relay's log says how. "
            "Sign in with a key."
        )
        return SignInFailed(message, reason, 502)

    def _refused(self, reason: str) -> SignInFailed:
        return SignInFailed(
            f"What {self.name} answered cannot be trusted, so you were not signed in. Try again.",
            reason,
        )


def _header(token: str) -> dict[str, Any]:
    """What a token says of its signature; nothing if it cannot be read."""
    text = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", header) if isinstance(header, dict) else {}


def _safe(code: object) -> str:
    """A word of the provider's that may be shown."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "no reason given"
