"""What upstreams keep: asked for, ended and deleted where it was made, and nowhere else. Nothing of
that is billed: the call that made it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter

from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, NotFound, UpstreamFailed, UpstreamRefused
from merino.domain.key import VirtualKey
from merino.gateway.call import Call
from merino.gateway.origins import Origins
from merino.gateway.planning import Planner
from merino.gateway.ports import (
    AskedFor,
    Keeper,
    Provider,
    UpstreamRequest,
    UpstreamResponse,
)
from merino.gateway.refusals import may_fail_over, redact_error, refusal_of
from merino.gateway.roads import Roads, is_about_road
from merino.gateway.state import RelayState
from merino.gateway.verdicts import Sent
from merino.wire.redaction import Secrets
from merino.wire.response_state import NO_STATE
from merino.wire.state_paths import StatePath

COUNT_BYTES_MAX = 1024 * 1024
_NO_SUCH_PATH = frozenset((404, 405, 501))


class UpstreamsKept:
    """`named` finds a deployment by its name, among all that there are now."""

    def __init__(
        self,
        origins: Origins,
        keepers: Mapping[str, Keeper],
        named: Callable[[str], Deployment | None],
        secrets: Callable[[], Secrets],
    ) -> None:
        self._origins = origins
        self._keepers = keepers
        self._named = named
        self._secrets = secrets

    async def ask(
        self, path: StatePath, key: VirtualKey, method: str, query: str = "", body: bytes = b""
    ) -> tuple[Deployment, UpstreamResponse]:
        """The answer of who made it, if it is one. Raises `NotFound` if this account has no such
        thing, otherwise what the upstream refused or failed with."""
        origin = await self._origins.known(path.id, key.account_id)
        if origin is None or not key.may_call(origin.alias):
            raise not_found(path)
        return await self.ask_at(origin.deployment, path, method, query, body)

    async def ask_at(
        self, name: str, path: StatePath, method: str, query: str = "", body: bytes = b""
    ) -> tuple[Deployment, UpstreamResponse]:
        """The same of what is known to be at this deployment."""
        deployment = self._named(name)
        keeper = None if deployment is None else self._keepers.get(deployment.provider)
        if deployment is None or keeper is None:
            raise _is_gone(path, name)
        try:
            asked = AskedFor(method, path.below, query, body)
            return deployment, await self._asked(keeper, deployment, asked)
        except UpstreamRefused as error:
            if error.status != 404:
                raise
            # Known here and unknown there: expired, deleted, or another credential by now.
            raise _is_unknown(deployment, error) from error

    async def make_conversation(
        self, body: bytes, deployments: Iterable[Deployment]
    ) -> tuple[Deployment, UpstreamResponse]:
        """Have the first upstream make it that can. Raises `InvalidCall` if none can."""
        asked = AskedFor("POST", "conversations", body=body)
        tried: set[tuple[str, str, str]] = set()
        for deployment in deployments:
            place = (deployment.provider, deployment.base_url, deployment.credential)
            keeper = self._keepers.get(deployment.provider)
            declared = deployment.endpoints
            if keeper is None or place in tried or (declared and "responses" not in declared):
                continue
            tried.add(place)
            try:
                return deployment, await self._asked(keeper, deployment, asked)
            except UpstreamRefused as error:
                if error.status not in _NO_SUCH_PATH:
                    raise
        raise InvalidCall(
            "No upstream of the models that this key may call keeps conversations. The relay's "
            'operator can have the relay keep them: responses.store = "relay".',
            code="endpoint_not_supported",
        )

    async def _asked(
        self, keeper: Keeper, deployment: Deployment, asked: AskedFor
    ) -> UpstreamResponse:
        try:
            response = await keeper.ask(deployment, asked)
            if response.status < 300:
                return response
            try:
                raise await refusal_of(response, deployment, Sent(asked.body, 0))
            finally:
                response.close()
        except UpstreamFailed as error:
            redact_error(error, self._secrets())
            raise


class Counting:
    """`responses/input_tokens`: counted by an upstream, and by nobody else. The relay's own
    estimate is rounded up for holds; taken for the count, it would have callers cut what fits."""

    def __init__(
        self,
        planner: Planner,
        providers: Mapping[str, Provider],
        roads: Roads,
        origins: Origins,
        secrets: Callable[[], Secrets],
        state: RelayState,
    ) -> None:
        self._state = state
        self._planner = planner
        self._providers = providers
        self._roads = roads
        self._origins = origins
        self._secrets = secrets

    async def count(self, call: Call) -> bytes:
        """An upstream's answer. Raises `InvalidCall` if none of the alias can count."""
        request = call.request
        if request.state is not None and request.state is not NO_STATE:
            await self._state.prepare(call, request.state)
        if request.previous_id is not None:
            call.origin = await self._origins.find(request.previous_id, call.key.account_id)
        failure: UpstreamFailed | None = None
        for deployment in self._planner.plan(call).candidates:
            now = perf_counter()
            if not self._roads.is_native(call, deployment, now):
                continue
            try:
                return await self._counted(call, deployment)
            except UpstreamFailed as error:
                if isinstance(error, UpstreamRefused) and is_about_road(
                    error, request, call.body, deployment.endpoints
                ):
                    self._roads.learn(deployment, request, now)
                    continue
                failure = error
                if not may_fail_over(error):
                    break
        if failure is not None:
            raise failure
        raise InvalidCall(
            f"No deployment of '{call.alias.name}' counts input tokens. POST /v1/estimate says at "
            "least how many the relay holds credit for.",
            param="model",
            code="endpoint_not_supported",
        )

    async def _counted(self, call: Call, deployment: Deployment) -> bytes:
        call.request.set_model(deployment.upstream_model)
        body = call.request.render()
        asked = UpstreamRequest(
            call.id,
            call.request.endpoint.name,
            body,
            deployment,
            passed=call.request.passed,
            query=call.request.query,
        )
        response: UpstreamResponse | None = None
        try:
            response = await self._providers[deployment.provider].send(asked)
            if response.status >= 300:
                raise await refusal_of(response, deployment, Sent(call.body, call.input_tokens))
            return await response.read(COUNT_BYTES_MAX)
        except UpstreamFailed as error:
            redact_error(error, self._secrets())
            raise
        finally:
            if response is not None:
                response.close()


_WHAT = {"responses": "Response", "conversations": "Conversation"}


def not_found(path: StatePath, because: str = "") -> NotFound:
    """The API's own words for what this account does not have."""
    what = _WHAT.get(path.kind, "Object")
    if path.item:
        what = f"Item with id '{path.item[:100]}' not found in {what.lower()}"
        return NotFound(f"{what} with id '{path.id[:100]}'{because}.")
    return NotFound(f"{what} with id '{path.id[:100]}' not found{because}.")


def _is_gone(path: StatePath, deployment: str) -> NotFound:
    return not_found(
        path,
        f": deployment '{deployment}', which made it, is no longer one of this relay. Its "
        "operator may bring it back; otherwise send the whole conversation as `input`",
    )


def _is_unknown(deployment: Deployment, error: UpstreamRefused) -> UpstreamRefused:
    refused = UpstreamRefused(
        f"{error.message.rstrip('.')}. Deployment '{deployment.name}', which made it, does not "
        "have it now: it was deleted, its time was over, or the deployment's credential has "
        "changed since.",
        status=404,
        error_type=error.error_type,
        param=error.param,
        code=error.code,
    )
    refused.verdict, refused.refused_with = error.verdict, error.refused_with
    return refused
