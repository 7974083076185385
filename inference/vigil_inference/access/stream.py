"""Streams that end with the session that asked for them."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from vigil.errors import VigilError
from vigil_inference.access.desk import AccessDesk

T = TypeVar("T")
LOOK_SECONDS = 5.0


async def while_signed_in(
    request: Request, desk: AccessDesk, events: AsyncIterator[T]
) -> AsyncIterator[T]:
    """Yield events for as long as whoever asked is still let in; looked at every five seconds."""
    waiting: asyncio.Future[T] | None = None
    try:
        while True:
            if waiting is None:
                waiting = asyncio.ensure_future(_next(events))
            await asyncio.wait({waiting}, timeout=LOOK_SECONDS)
            if not await _is_let_in(request, desk):
                return
            if waiting.done():
                event, waiting = waiting.result(), None
                yield event
    except StopAsyncIteration:
        return
    finally:
        if waiting is not None:
            waiting.cancel()


async def _next(events: AsyncIterator[T]) -> T:
    return await anext(events)


async def _is_let_in(request: Request, desk: AccessDesk) -> bool:
    secret = getattr(request.state, "session_secret", None)
    if secret is not None:
        if desk.sessions.recall(secret) is not None:
            return True
        return await run_in_threadpool(desk.sessions.find, secret) is not None
    token = getattr(request.state, "token", None)
    if token is not None and desk.tokens.recall(token) is None:
        try:
            await run_in_threadpool(desk.tokens.find, token)
        except VigilError:
            return False
    return True
