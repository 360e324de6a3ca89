"""A run behind an API, and a page to try it: ``oovrec serve`` (pip install 'oovrec[serve]').

Requests that come while the model answers others wait and are then answered in one batch: nobody waits for a batch to
fill, and under load the model reads many histories at once. ``/docs`` says what each address takes and gives.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field, PlainValidator, StrictBool, StrictInt
from pydantic_core import PydanticCustomError

from oovrec import __version__
from oovrec.app.addresses import addresses
from oovrec.app.figures import GOLDEN_ANGLE
from oovrec.app.page import page
from oovrec.app.runs import Recommended, Run
from oovrec.app.together import Together
from oovrec.config import Options, checked
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError, brief, unknown
from oovrec.evaluation.results import read_result

try:
    import uvicorn
    from fastapi import Body, Depends, FastAPI, Query, Request
    from fastapi import Path as PathParameter
    from fastapi.concurrency import run_in_threadpool
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as missing:
    raise OovrecError("serving needs FastAPI and uvicorn", remedy="run: pip install 'oovrec[serve]'") from missing

MOST = 1000  # items a list
TOGETHER = 256  # requests a batch
FOUND = 20  # items of a search
AS_JSON = "send JSON as application/json, and see /docs"  # the remedy for a body that cannot be taken
LAST = 20  # seconds that a stopped server gives to those it is answering


def _id(value: object) -> object:
    if isinstance(value, str) or type(value) is int:
        return value
    raise PydanticCustomError("id", "input should be a text or a whole number")


Id = Annotated[str | int, PlainValidator(_id, json_schema_input_type=str | int)]


class Wanted(Options):
    """What ``POST /recommend`` takes: one of user and history."""

    user: Id | None = Field(
        None, description="an id of the run's data; everything the user is known to have taken is the history"
    )
    history: list[Id] | None = Field(None, description="item ids, oldest first")
    k: StrictInt = Field(10, ge=1, le=MOST, description="how many items")
    mask_seen: StrictBool = Field(True, description="leave the history's own items out")
    skip_unknown: StrictBool = Field(False, description="go by those of the history's items that are known, if any")


@dataclass(frozen=True)
class Question:
    """One history, and what is asked of it."""

    history: Histories
    k: int
    mask_seen: bool


def answers(run: Run, questions: Sequence[Question]) -> list[list[Recommended]]:
    """The lists of all questions; those that mask alike are one batch."""
    found: dict[int, list[Recommended]] = {}
    for mask_seen in (True, False):
        rows = [row for row, question in enumerate(questions) if question.mask_seen is mask_seen]
        if not rows:
            continue
        known = [questions[row].history for row in rows]
        batch = Histories.of([one[0] for one in known], [int(one.users[0]) for one in known])
        best = run.model.recommend(batch, max(questions[row].k for row in rows), mask_seen=mask_seen)
        found |= {row: items[: questions[row].k] for row, items in zip(rows, run.named(best), strict=True)}
    return [found[row] for row in range(len(questions))]


class Catalogue:
    """The items of a run, to be searched and shown."""

    def __init__(self, run: Run) -> None:
        entities = run.model.entities
        self._ids, self._index = entities.items, entities.item_index
        self._titles = entities.titles or [""] * len(entities.items)
        self._tokens = entities.tokens.items if entities.tokens and run.speaks else None
        self._folded = [title.casefold() for title in self._titles]

    def item(self, index: int) -> dict[str, str]:
        """Id, title and tokens of an item."""
        tokens = self._tokens.text(index) if self._tokens else ""
        return {"id": self._ids[index], "title": self._titles[index], "tokens": tokens}

    def search(self, query: str, limit: int) -> list[dict[str, str]]:
        """The item of that id, then those whose titles begin with the words, then those that have them elsewhere."""
        words, exact = query.strip().casefold(), self._index.get(query.strip())
        places = ((title.find(words), index) for index, title in enumerate(self._folded)) if words else ()
        having = sorted((place > 0, index) for place, index in places if place >= 0 and index != exact)
        found = [index for _, index in having] if exact is None else [exact, *(index for _, index in having)]
        return [self.item(index) for index in found[:limit]]


class Service:
    """What the addresses answer.

    Args:
        dataset: what the run was trained on, for users to be known by their ids; None serves histories alone.
        together: requests a batch, at most.

    Raises:
        OovrecError: the run is not finished, or broken.
    """

    def __init__(self, run: Run, dataset: Dataset | None, together: int = TOGETHER) -> None:
        self._run, self._dataset, self._catalogue = run, dataset, Catalogue(run)
        self._model = Together[Question, list[Recommended]](
            lambda questions: answers(run, questions), together, run.arithmetic()
        )

    @property
    def example(self) -> str:
        """The id of an item."""
        return self._run.model.entities.items[0]

    @property
    def notice(self) -> str:
        """What else is to be known of what the model has learnt from."""
        return self._run.recipe.notice

    def health(self) -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Of the run; ``figures`` are the masked ones of its test, None where it was not evaluated.

        ``until`` says what it learnt from, as in a recipe.
        """
        path = self._run.folder / "metrics.json"
        return {
            "system": self._run.label,
            "data": self._run.data.name,
            "tokens_from": self._run.tokens_from,
            "until": self._run.recipe.until,
            "items": len(self._run.model.entities.items),
            "users": None if self._dataset is None else len(self._dataset.users),
            "figures": read_result(path).blocks["masked"] if path.exists() else None,
        }

    def about(self) -> dict[str, Any]:
        """What is served: system, data, what its tokens were built from, its masked figures on held-out items."""
        return self.facts

    def items(
        self,
        query: Annotated[str, Query(description="an id, or words of a title")],
        limit: Annotated[int, Query(ge=1, le=MOST, description="how many items, at most")] = FOUND,
    ) -> list[dict[str, str]]:
        """Items by id or by words of their title."""
        return self._catalogue.search(query, limit)

    def user(self, user: Annotated[str, PathParameter(description="an id of the run's data")]) -> dict[str, Any]:
        """What a user is known to have taken, oldest first."""
        if self._dataset is None or user not in self._dataset.user_index:
            raise HTTPException(404, f"unknown user '{brief(user)}'.")
        history = self._dataset.full[self._dataset.user_index[user]]
        return {"id": user, "history": [self._catalogue.item(int(item)) for item in history]}

    async def recommend(self, body: Annotated[dict[str, Any], Body()]) -> list[dict[str, Any]]:
        """The best next items of a user or a history, best first, as oovrec recommend --json gives them."""
        wanted = checked(Wanted, body, where="")
        history = await run_in_threadpool(self._history, wanted)
        return [asdict(item) for item in await self._model(Question(history, wanted.k, wanted.mask_seen))]

    def _history(self, wanted: Wanted) -> Histories:
        if wanted.user is not None and self._dataset is None:
            what = "no users are known here, for the run's data was not found"
            raise OovrecError(what, where="user", remedy="give a history, or start 'oovrec serve' with --data")
        return self._run.histories(wanted.user, wanted.history, self._dataset, wanted.skip_unknown)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Ends the model's thread with the server, which Ctrl-C once more breaks off."""
        with suppress(asyncio.CancelledError):
            yield
        self._model.close()


def application(service: Service) -> FastAPI:
    """The API and its two pages."""
    about = service.facts
    title = f"oovrec: {about['system']} on {about['data']}"
    app = FastAPI(title=title, version=__version__, lifespan=service.lifespan, docs_url=None, redoc_url=None)
    home = HTMLResponse(page("serve.html.j2", run=about, notice=service.notice, most=MOST, angle=GOLDEN_ANGLE))
    body = {"required": True, "content": {"application/json": {"schema": Wanted.model_json_schema()}}}

    def docs(request: Request) -> HTMLResponse:
        told = {"addresses": addresses(app.openapi()), "base": request.base_url, "example": service.example}
        return HTMLResponse(page("addresses.html.j2", run=about, **told))

    app.add_api_route("/", lambda: home, include_in_schema=False)
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.get("/health")(service.health)
    app.get("/run")(service.about)
    checks = [Depends(_no_others)]
    app.get("/items", dependencies=checks)(service.items)
    app.get("/users/{user:path}", dependencies=checks)(service.user)
    app.post("/recommend", dependencies=checks, openapi_extra={"requestBody": body})(service.recommend)
    app.add_exception_handler(OovrecError, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    return app


async def _no_others(request: Request) -> None:
    """That a query has no parameters but those of its address; watchers of /health and /run may add what they like."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name in known:
            continue
        if request.method == "POST":
            raise OovrecError(f"'{brief(name)}' stands in the query", where="query", remedy="send it in the body")
        raise unknown("parameter", name, known, where="query")


def _refused(_: Request, error: Exception) -> JSONResponse:
    """One sentence, as on the command line."""
    status, sentence, headers = 422, str(error), None
    if isinstance(error, HTTPException):
        headers = error.headers  # such as what a 405 allows
        status, sentence = error.status_code, f"{str(error.detail).removesuffix('.')}; see /docs."
        if status == 400:  # the body is no text
            sentence = f"body: cannot be read; {AS_JSON}."
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        remedy = AS_JSON if first["loc"][0] == "body" else "see /docs"
        sentence = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}; {remedy}."
    readable = sentence.encode("utf-8", "replace").decode()  # half a character in a request is no text
    return JSONResponse({"error": readable}, status_code=status, headers=headers)


def _refusing(app: ASGIApp) -> ASGIApp:
    """``app``, which tells those whom a stopped server waits for no longer, such as who has sent half a request."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            await JSONResponse({"error": "the server is stopping; ask again later."}, 503)(scope, receive, send)

    return answer


def _with_heads(app: ASGIApp) -> ASGIApp:
    """``app``, asked with HEAD as with GET; the server leaves the body out."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)

    return answer


def serve(run: Run, host: str, port: int, data: str | None = None) -> None:
    """Answer over HTTP until Ctrl-C or SIGTERM, which let those who have asked be answered.

    Args:
        data: where the run's data lies now.

    Raises:
        OovrecError: the run or ``data`` is broken, or the port cannot be had.
    """
    if not host:
        raise OovrecError("is empty", where="--host", remedy="give 127.0.0.1, or 0.0.0.0 for every address")
    quiet: dict[str, Any] = {"log_config": None, "access_log": False}
    app = application(Service(run, _dataset(run, data)))
    config = uvicorn.Config(_refusing(_with_heads(app)), host=host, port=port, timeout_graceful_shutdown=LAST, **quiet)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
            bound.listen()  # whoever reads the address may ask at once
        except OSError as error:
            what = f"cannot listen there ({error.strerror or error})"
            raise OovrecError(what, where=f"{host}:{port}", remedy="choose another --host or --port") from error
        shown = f"[{host}]" if ":" in host else host
        print(f"{app.title}, at http://{shown}:{bound.getsockname()[1]} (Ctrl-C stops)", flush=True)
        with suppress(KeyboardInterrupt):  # a server's usual end; uvicorn raises it again once all is answered
            _Server(config).run(sockets=[bound])


class _Server(uvicorn.Server):
    """Says why it does not stop at once, where it does not."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.tasks:
            once = "those who have asked are answered"
            print(f"stopping when {once}, in {LAST} s at the latest (Ctrl-C once more: now)", flush=True)
        await super().shutdown(sockets)


def _dataset(run: Run, data: str | None) -> Dataset | None:
    """The run's data; None where it is not where it was, and nobody said where it is."""
    try:
        return run.dataset(data)
    except OovrecError as error:
        if data is not None:
            raise
        print(f"users are not known here, histories are: {error}", flush=True)
        return None
