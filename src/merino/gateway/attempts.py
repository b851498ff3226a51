"""Try the candidates of a call until one answers, as long as nothing reached the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Protocol

from merino.domain.call import Attempt
from merino.domain.deployment import Deployment
from merino.domain.errors import (
    MerinoError,
    NoDeploymentAvailable,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
)
from merino.gateway.call import Call
from merino.gateway.ports import Provider, UpstreamRequest, UpstreamResponse
from merino.wire.errors import parse_error
from merino.wire.retry_after import parse_retry_after

ERROR_BODY_BYTES_MAX = 256 * 1024
_CREDENTIAL_STATUSES = frozenset((401, 402, 403))
_FAIL_OVER_STATUSES = frozenset((408, 409, 425, 429))


class Consumer(Protocol):
    """Takes an answer whose status is 2xx to its end. What it raises while nothing is committed to
    the caller counts as a failed attempt."""

    @property
    def is_committed(self) -> bool: ...

    async def consume(self, response: UpstreamResponse) -> None: ...


class Attempts:
    def __init__(self, providers: Mapping[str, Provider], attempts_max: int = 3) -> None:
        self._providers = providers
        self._attempts_max = attempts_max

    async def run(
        self,
        call: Call,
        candidates: Sequence[Deployment],
        consumer: Consumer,
    ) -> None:
        """Return when one attempt was consumed whole. Raises the last attempt's `UpstreamFailed`.

        A deployment that fails before anything was committed to the caller is followed by the
        next one; an answer that says the call itself is wrong is not.
        """
        if not candidates:
            raise NoDeploymentAvailable(
                f"No deployment of '{call.alias.name}' is available.", retry_after_s=5.0
            )
        last = min(len(candidates), self._attempts_max) - 1
        for number, deployment in enumerate(candidates[: last + 1]):
            call.deployment = deployment
            began = call.sent_at = perf_counter()
            try:
                await self._attempt(call, deployment, consumer)
            except UpstreamFailed as error:
                is_over = number == last or consumer.is_committed or not _may_fail_over(error)
                _remember(call, began, error, None if is_over else "fail over")
                if is_over:
                    raise
            else:
                call.upstream_done_at = perf_counter()
                return

    async def _attempt(self, call: Call, deployment: Deployment, consumer: Consumer) -> None:
        call.request.set_model(deployment.upstream_model)
        request = UpstreamRequest(
            call.id,
            call.request.endpoint,
            call.request.render(),
            deployment,
            call.request.stream,
        )
        response: UpstreamResponse | None = None
        try:
            response = await self._providers[deployment.provider].send(request)
            if response.status >= 300:
                raise await _refused(response, deployment)
            await consumer.consume(response)
        except asyncio.CancelledError:
            raise _timed_out(call, deployment) or asyncio.CancelledError from None
        finally:
            if response is not None:
                response.close()


def _timed_out(call: Call, deployment: Deployment) -> UpstreamTimedOut | None:
    """The cancellation as an error, if the watchdog caused it; the call then goes on."""
    limits_s = {
        "first_token_timeout": (deployment.first_token_timeout_s, "sent no content within"),
        "idle_timeout": (deployment.idle_timeout_s, "went silent for"),
        "total_timeout": (call.alias.timeout_s, "did not finish within"),
    }
    cause = call.cancel_cause
    if cause not in limits_s or call.task is None:
        return None
    seconds, what = limits_s[cause]
    call.cancel_cause = None
    call.task.uncancel()
    return UpstreamTimedOut(
        f"Deployment '{deployment.name}' {what} {seconds:g} s.", code="upstream_timeout"
    )


def _may_fail_over(error: UpstreamFailed) -> bool:
    if isinstance(error, UpstreamRefused):
        return error.status >= 500 or error.status in _FAIL_OVER_STATUSES
    return True


def _remember(call: Call, began: float, error: MerinoError, reason_for_next: str | None) -> None:
    call.attempts.append(
        Attempt(
            deployment=call.deployment.name if call.deployment else "",
            started_ms=(began - call.received_at) * 1000,
            duration_ms=(perf_counter() - began) * 1000,
            outcome=type(error).__name__,
            status=error.status if isinstance(error, UpstreamRefused) else 0,
            reason_for_next=reason_for_next,
        )
    )


async def _refused(response: UpstreamResponse, deployment: Deployment) -> UpstreamFailed:
    """What the vendor said, in our words where its own would mislead the caller."""
    try:
        body = await response.read(ERROR_BODY_BYTES_MAX)
    except UpstreamFailed:
        body = b""
    status = response.status
    if status < 400:
        return UpstreamBroken(
            f"Deployment '{deployment.name}' answered with a redirect ({status}); its base_url "
            "needs correcting.",
            code="upstream_redirect",
        )
    retry_after_s = parse_retry_after(
        response.header(b"retry-after-ms"), response.header(b"retry-after")
    )
    if status in _CREDENTIAL_STATUSES:
        # The vendor speaks of our credential; the caller would take it for their key.
        return UpstreamBroken(
            f"Deployment '{deployment.name}' refused the relay's own credential ({status}). "
            "The relay's operator must check it.",
            code="upstream_credential_refused",
        )
    parsed = parse_error(body)
    message, kind, param, code = parsed or (f"The upstream answered {status}.", None, None, None)
    if deployment.credential:
        message = message.replace(deployment.credential, "[credential]")
    return UpstreamRefused(
        message,
        status=status,
        error_type=kind,
        param=param,
        code=code,
        retry_after_s=retry_after_s,
    )
