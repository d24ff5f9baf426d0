"""What `serve` answers: entities of texts, as a FastAPI application.

A request holds texts or words and nothing else: no path, no model, no code. Requests that wait are labelled together,
by one thread. Whatever is wrong with one is said as `{"detail": "one sentence"}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Self

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ner_lightning
from ner_lightning.errors import InputError
from ner_lightning.predict.tagger import Tagger, rows_of
from ner_lightning.readers import Row

_BYTES = 16  # of a character in JSON, at most: two escapes, and what stands around a word
_WAITING, _TOGETHER = 64, 32  # requests that may wait, and that are labelled together


class Inputs(BaseModel):
    """Texts, or sentences whose words are given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str] | None = Field(None, description="Plain texts.", examples=[["Mira Toll left Quill Works."]])
    tokens: list[list[str]] | None = Field(None, description="In place of texts: the words of sentences.")
    documents: list[int | str] | None = Field(
        None, description="Name or number of the document of each input, for a model that reads neighbours together."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.texts is None) == (self.tokens is None):
            raise ValueError("give texts or tokens, one of them")
        try:  # what JSON may hold and the answer may not
            " ".join([*(self.texts or []), *chain(*(self.tokens or []))]).encode()
        except UnicodeEncodeError as error:
            raise ValueError("half of a surrogate pair is no character") from error
        return self


class Entity(BaseModel):
    """An entity; start and end count characters of a text, and words where words were given."""

    type: str
    text: str
    start: int
    end: int
    score: float = Field(description="Probability of its labels.")


class Found(BaseModel):
    """The entities of each input, in the order of the inputs."""

    entities: list[list[Entity]]


class Health(BaseModel):
    """That it works, and what it finds."""

    status: str
    version: str
    types: list[str]


class Problem(BaseModel):
    """What is wrong."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body cannot be read."},
    408: {"model": Problem, "description": "The body did not come in time."},
    413: {"model": Problem, "description": "The request is too large."},
    422: {"model": Problem, "description": "The body is no JSON, or not as described."},
    503: {"model": Problem, "description": "Too many requests wait."},
    504: {"model": Problem, "description": "It took too long."},
}


def make_app(tagger: Tagger, *, max_chars: int, timeout: float) -> FastAPI:
    """Make the application.

    Args:
        tagger: What labels.
        max_chars: Characters of all inputs of a request; the end of a text or word counts as one.
        timeout: Seconds that a request may take, and that its body may take to come.
    """
    queue = _Queue(tagger)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(queue.work())
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
        queue.close()

    async def not_as_described(request: Request, error: Any) -> JSONResponse:
        # without the input, which may hold what no JSON does
        told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3]]
        return _problem(422, "; ".join(told).encode("utf-8", "replace").decode())

    async def health() -> Health:
        """Whether it works."""
        return Health(status="ok", version=ner_lightning.__version__, types=tagger.entities.types)

    async def entities(inputs: Inputs) -> Found:
        """Find the entities of texts or of sentences."""
        given = inputs.texts if inputs.texts is not None else inputs.tokens
        assert given is not None
        size = sum(1 + len(each if isinstance(each, str) else " ".join(each)) for each in given)
        if size > max_chars:
            raise HTTPException(413, f"{size:,} characters, ends of texts and words included: at most {max_chars:,}")
        try:
            async with asyncio.timeout(timeout):
                found = await queue.label(rows_of(given, documents=inputs.documents))
        except InputError as error:
            raise HTTPException(422, str(error)) from error
        except asyncio.QueueFull as error:
            raise HTTPException(503, "too many requests wait: try again later", {"retry-after": "1"}) from error
        except TimeoutError as error:
            raise HTTPException(504, f"not done after {timeout:g} seconds: send less at once") from error
        return Found.model_validate({"entities": found})

    app = FastAPI(
        title="ner_lightning",
        version=ner_lightning.__version__,
        description="Finds entities in texts.",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(_Limits, max_bytes=_BYTES * max_chars, timeout=timeout)
    app.add_exception_handler(RequestValidationError, not_as_described)
    app.add_api_route("/health", health)
    app.add_api_route("/entities", entities, methods=["POST"], responses=_PROBLEMS)
    return app


@dataclass(eq=False)
class _Job:
    rows: list[Row]
    done: asyncio.Future[list[Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Queue:
    """Requests that wait for one thread, which labels together what has come meanwhile."""

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self._thread = ThreadPoolExecutor(1)  # what libraries keep for each thread is there once
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(_WAITING)

    async def label(self, rows: list[Row]) -> list[Any]:
        job = _Job(rows)
        self._jobs.put_nowait(job)
        return await job.done

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    async def work(self) -> None:
        while True:
            jobs = [await self._jobs.get()]
            while len(jobs) < _TOGETHER and not self._jobs.empty():
                jobs.append(self._jobs.get_nowait())
            jobs = [job for job in jobs if not job.done.done()]  # of others nobody waits for the answer
            try:
                await self._run(jobs)
            except Exception:  # in one of them: the others shall not suffer
                for job in jobs:
                    try:
                        await self._run([job])
                    except Exception as error:
                        if not job.done.done():
                            job.done.set_exception(error)

    async def _run(self, jobs: list[_Job]) -> None:
        requests = [job.rows for job in jobs]
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._entities, requests)
        for job, entities in zip(jobs, found, strict=True):
            if not job.done.done():
                job.done.set_result(entities)

    def _entities(self, requests: list[list[Row]]) -> list[list[Any]]:
        # documents of one name in two requests are two
        rows = [
            row if row.document is None else row._replace(document=f"{number} {row.document!r}")
            for number, request in enumerate(requests)
            for row in request
        ]
        found = iter([self._tagger.entities.as_dicts(each) for each in self._tagger.label(rows, of_one_file=False)])
        return [[next(found) for _ in request] for request in requests]


class _Limits:
    """Reads the body of a request, which may be neither too large nor too slow, before anything else sees it."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout: float) -> None:
        self.app, self.max_bytes, self.timeout = app, max_bytes, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self.timeout):
                while more and len(body) <= self.max_bytes:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            await _problem(408, f"the body did not come within {self.timeout:g} seconds")(scope, receive, send)
            return
        if len(body) > self.max_bytes:
            await _problem(413, f"the body has more than {self.max_bytes:,} bytes")(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)


def _problem(status: int, detail: str) -> JSONResponse:
    # what is left of a body is not read
    return JSONResponse({"detail": detail}, status, {"connection": "close"} if status in (408, 413) else None)
