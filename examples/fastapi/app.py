"""A web service of several processes that computes a report once, however many ask for it.

    pip install fastapi uvicorn diskcache
    uvicorn --app-dir examples/fastapi --workers 2 app:app

Every worker process has an event loop and this cache. Of all requests for a report that is not
there, in whatever process, one computes it; the others wait without keeping a thread. A report that
is there comes from the memory of the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response

from diskcache import AsyncCache

cache = AsyncCache(os.environ.get("REPORTS", "reports"), size_limit=100_000_000)
"""Opened by the first process that uses it; the directory is made then."""


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open the cache before the first request, and close it after the last."""
    async with cache:
        yield


app = FastAPI(lifespan=lifespan)


async def compute(name: str) -> dict[str, Any]:
    """Make a report, slowly."""
    await asyncio.sleep(0.5)
    number = await cache.incr(f"computed {name}")
    return {"name": name, "number": number, "process": os.getpid()}


@app.get("/reports/{name}")
async def report(name: str, response: Response) -> dict[str, Any]:
    """Return a report that is a minute old at most."""
    response.headers["X-Process"] = str(os.getpid())
    return await cache.get_or_set(f"report {name}", lambda: compute(name), expire=60, tag="reports")


@app.delete("/reports")
async def forget() -> dict[str, int]:
    """Have all reports made anew."""
    return {"forgotten": await cache.evict("reports")}
