"""Liveness, readiness and metrics, for load balancers and Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def health_routes(
    why_not_ready: Callable[[], str | None],
    render_metrics: Callable[[], bytes],
    warnings: Callable[[], Sequence[str]] = tuple,
) -> list[Route]:
    """`why_not_ready` returns `None` when calls are taken, else the reason why not; `warnings` are
    what an operator should look at although they are. Anybody may read them."""

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reason = why_not_ready()
        if reason is not None:
            return JSONResponse({"status": "unavailable", "reason": reason}, status_code=503)
        told = list(warnings())
        return JSONResponse({"status": "ok", **({"warnings": told} if told else {})})

    async def metrics(_: Request) -> Response:
        return Response(render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # `/health` is what benchmarks and balancers ask by default (vLLM's and llama.cpp's path).
    return [
        Route("/livez", livez),
        Route("/health", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]
