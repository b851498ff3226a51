"""The dialect of OpenAI and of every server that is compatible with it: a base URL, a credential,
and the caller's body as it is. Connections are the HTTP client's business."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from merino import __version__
from merino.domain.deployment import Deployment
from merino.domain.errors import Misconfigured
from merino.gateway.ports import AskedFor, UpstreamRequest, UpstreamResponse
from merino.wire.retry_after import parse_retry_after

OriginT = TypeVar("OriginT")
OriginT_contra = TypeVar("OriginT_contra", contravariant=True)


class HttpClient(Protocol[OriginT_contra]):
    """Sends rendered HTTP/1.1 requests to an origin."""

    async def send(
        self, origin: OriginT_contra, data: bytes, *, connect_timeout_s: float
    ) -> UpstreamResponse: ...


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL, taken apart. `host` is without brackets, `query` without its `?`."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    query: str


def _bearer(credential: str) -> tuple[str, str]:
    return "authorization", f"Bearer {credential}"


@dataclass(frozen=True, slots=True)
class Auth:
    """How a dialect's requests say who asks: the header of a credential, and headers that go along
    where the caller and the deployment have none of their own."""

    header_of: Callable[[str], tuple[str, str]] = _bearer
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])


BEARER = Auth()
Passed = tuple[tuple[bytes, bytes], ...]
"""Headers of the caller's that go along."""


@dataclass(frozen=True, slots=True)
class _Prepared(Generic[OriginT]):
    deployment: Deployment
    origin: OriginT
    head: bytes


class OpenAIProvider(Generic[OriginT]):
    """Sends the caller's body under headers of the deployment's own; of the caller's headers only
    those go along that the endpoint names. `origin_of` makes the client's origin of scheme, host
    and port."""

    auth = BEARER

    def __init__(
        self, client: HttpClient[OriginT], origin_of: Callable[[str, str, int], OriginT]
    ) -> None:
        self._client = client
        self._origin_of = origin_of
        self._prepared: dict[tuple[str, str, Passed, bytes], _Prepared[OriginT]] = {}

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        deployment = request.deployment
        known = (deployment.name, request.endpoint, request.passed, request.query)
        prepared = self._prepared.get(known)
        # Settings may have been reloaded: a deployment of the same name is not the same one.
        if prepared is None or prepared.deployment is not deployment:
            prepared = self._prepare(
                deployment, request.endpoint, passed=request.passed, query=request.query
            )
        body = request.body
        return self._client.send(
            prepared.origin,
            b"%b%d\r\n%b\r\n%b" % (prepared.head, len(body), request.trace, body),
            connect_timeout_s=deployment.connect_timeout_s,
        )

    async def ping(self, deployment: Deployment) -> int:
        """The status of `GET /models`: whether the server answers at all. Raises
        `UpstreamFailed`."""
        prepared = self._prepare(deployment, "models", method="GET")
        response = await self._client.send(
            prepared.origin, prepared.head, connect_timeout_s=deployment.connect_timeout_s
        )
        try:
            await response.read(_PING_BYTES_MAX)
            return response.status
        finally:
            response.close()

    async def ask(self, deployment: Deployment, asked: AskedFor) -> UpstreamResponse:
        """A request about what the upstream keeps. Raises `UpstreamFailed`."""
        address, head = render_head(
            deployment, asked.path, asked.method, asked.query, auth=self.auth
        )
        data = head
        if asked.method == "POST":
            data = b"%b%d\r\n\r\n%b" % (head, len(asked.body), asked.body)
        return await self._client.send(
            self._origin_of(address.scheme, address.host, address.port),
            data,
            connect_timeout_s=deployment.connect_timeout_s,
        )

    def _prepare(
        self,
        deployment: Deployment,
        endpoint: str,
        method: str = "POST",
        passed: Passed = (),
        query: bytes = b"",
    ) -> _Prepared[OriginT]:
        address, head = render_head(
            deployment, endpoint, method, query.decode("latin-1"), auth=self.auth, passed=passed
        )
        origin = self._origin_of(address.scheme, address.host, address.port)
        prepared = _Prepared(deployment, origin, head)
        if len(self._prepared) >= _PREPARED_MAX:
            self._prepared.clear()  # callers may say what they like in headers
        self._prepared[deployment.name, endpoint, passed, query] = prepared
        return prepared


def check_deployment(deployment: Deployment) -> None:
    """Raise `Misconfigured` if calls could not be sent to this deployment."""
    render_head(deployment, "chat/completions")


def retry_after_s(response: UpstreamResponse) -> float | None:
    """How long the upstream wants us to wait, if it says so."""
    return parse_retry_after(response.header(b"retry-after-ms"), response.header(b"retry-after"))


# -- the head of a request ------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_HOST = re.compile(r"[0-9a-z_-]+(\.[0-9a-z_-]+)*\.?")
_OURS_ALONE = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_PREPARED_MAX = 10_000
_LISTED = frozenset(("anthropic-beta",))
"""Headers that are lists: the caller's and the deployment's are joined."""
_PING_BYTES_MAX = 8 * 1024 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNESCAPED_IN_TARGET = "/:@!$&'()*+,;=-._~%?"


def render_head(
    deployment: Deployment,
    endpoint: str,
    method: str = "POST",
    more_query: str = "",
    *,
    auth: Auth = BEARER,
    passed: Passed = (),
) -> tuple[Address, bytes]:
    """Everything before the number in the `content-length` line of a POST, or all of another
    request. Raises `Misconfigured`."""
    address = parse_base_url(deployment.base_url, f"deployment '{deployment.name}'")
    more_query = quote(more_query, safe=_UNESCAPED_IN_TARGET)
    query = "&".join(each for each in (address.query, more_query) if each)
    query = f"?{query}" if query else ""
    target = quote(f"{address.path}/{endpoint}", safe=_UNESCAPED_IN_TARGET) + query
    fields = {
        "host": address.authority,
        "user-agent": f"merino/{__version__}",
        "accept": "application/json",
        # A compressed answer would have to be unpacked to be metered.
        "accept-encoding": "identity",
        "content-type": "application/json",
    }
    fields |= auth.defaults
    for name, value in passed:
        fields[name.decode("latin-1")] = value.decode("latin-1")
    if deployment.credential:
        header, said = auth.header_of(deployment.credential)
        fields[header] = said
        if _FORBIDDEN_IN_VALUE.search(deployment.credential):
            raise Misconfigured(
                f"The credential of deployment '{deployment.name}' contains a line break or "
                "another character that HTTP does not allow; check where it is read from."
            )
    for name, value in deployment.headers:
        _check_field(deployment, name, value)
        lowered, said = name.lower(), value.strip(" \t")
        if lowered in _LISTED and lowered in fields:
            said = f"{said},{fields[lowered]}"
        fields[lowered] = said
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"{method} {target} HTTP/1.1\r\n{lines}"
    head += "content-length: " if method == "POST" else "\r\n"
    return address, head.encode("latin-1")


def _check_field(deployment: Deployment, name: str, value: str) -> None:
    where = f"of deployment '{deployment.name}'"
    if not _TOKEN.fullmatch(name):
        raise Misconfigured(
            f"Header name {name!r} {where} is not allowed in HTTP; use letters, digits and '-'."
        )
    if name.lower() in _OURS_ALONE:
        raise Misconfigured(f"Header '{name}' {where} is set by the relay itself; remove it.")
    # The value may be a secret, so it is not shown.
    if _FORBIDDEN_IN_VALUE.search(value):
        raise Misconfigured(
            f"The value of header '{name}' {where} contains a line break or another character "
            "that HTTP does not allow."
        )


def parse_base_url(base_url: str, where: str) -> Address:
    """Take a base URL such as `https://api.openai.com/v1` apart. Raises `Misconfigured`."""

    def wrong(why: str) -> Misconfigured:
        # Credentials people put into URLs must not end in logs.
        shown = re.sub(r"//[^/@]*@", "//[credential]@", base_url.partition("?")[0])
        return Misconfigured(
            f"base_url {shown!r} of {where} {why}. It should look like https://api.openai.com/v1."
        )

    if not base_url:
        raise wrong("is empty")
    if re.search(r"[\x00-\x20\x7f\\]", base_url):
        raise wrong("contains a space, a backslash or a control character")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong("has a host or port that cannot be read") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise wrong("must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise wrong("contains a user name or password; put secrets into `credential`")
    if parts.fragment:
        raise wrong("contains a '#' part, which is never sent")
    if port == 0:
        raise wrong("has port 0")
    is_ipv6 = ":" in host
    if is_ipv6:
        try:
            host = str(IPv6Address(host))
        except ValueError:
            raise wrong("has an IPv6 address that cannot be read") from None
        if "%" in host:
            raise wrong("has an IPv6 address with a zone, which cannot be sent")
    else:
        try:
            host = host.encode("idna").decode() if not host.isascii() else host
        except UnicodeError:
            raise wrong("has a host name that cannot be written in ASCII") from None
        if not _HOST.fullmatch(host):
            raise wrong("has no valid host name")
    default = _DEFAULT_PORTS[parts.scheme]
    authority = f"[{host}]" if is_ipv6 else host
    if port is not None and port != default:
        authority += f":{port}"
    return Address(
        scheme=parts.scheme,
        host=host,
        port=port or default,
        authority=authority,
        path=parts.path.rstrip("/"),
        query=quote(parts.query, safe=_UNESCAPED_IN_TARGET),
    )
