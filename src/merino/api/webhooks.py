"""`POST /webhooks/{provider}`: where payment providers tell us what happened.

Answered with 200 once the event is on the disk, whatever it then means: the provider need not send
it again. What is unsigned, stale or not ours is answered with 400, and kept nowhere but in the log.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from merino.api.errors import body_of, headers_of, status_of
from merino.billing.topups import EVENT_BYTES_MAX, TopUpDesk
from merino.domain.errors import BodyTooLarge, MerinoError


def payment_routes(desk: TopUpDesk) -> list[Route]:
    async def receive(request: Request) -> Response:
        try:
            body = bytearray()
            async for piece in request.stream():
                body += piece
                if len(body) > EVENT_BYTES_MAX:
                    raise BodyTooLarge(f"The event is longer than {EVENT_BYTES_MAX} bytes")
            headers = {name.lower(): value for name, value in request.headers.items()}
            provider = request.path_params["provider"]
            booking = await desk.receive(provider, bytes(body), headers)
        except MerinoError as error:
            return Response(
                body_of(error),
                status_code=status_of(error),
                media_type="application/json",
                headers={name.decode(): value.decode() for name, value in headers_of(error)},
            )
        return JSONResponse({"received": True, "outcome": booking.outcome})

    return [Route("/webhooks/{provider}", receive, methods=["POST"])]
