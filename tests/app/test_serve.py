"""The API gives what the command line gives, alone and under load, and refuses in a sentence."""

from __future__ import annotations

import asyncio
import html
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import MagicMock

import pytest
import torch
from starlette.testclient import TestClient

from oovrec.app import serve as serving
from oovrec.app.runs import Run, load_run
from oovrec.app.serve import Catalogue, Question, Service, answers, application, serve
from oovrec.app.together import Together
from oovrec.errors import OovrecError
from oovrec.models.entities import Entities
from oovrec.tokens.table import Tokens, TokenTable

COMMAND = "from oovrec.app.cli import app; app()"


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return load_run(finished)


@pytest.fixture(scope="module")
def client(run: Run) -> TestClient:
    return TestClient(application(Service(run, run.dataset())))


@pytest.fixture
def alone(run: Run) -> TestClient:
    """A server that has no data, and so knows no users."""
    return TestClient(application(Service(run, None)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"user": "u7"}, ["--user", "u7"]),
        ({"history": ["i3", "i9"], "k": 4}, ["--history", "i3,i9", "-k", "4"]),
        ({"history": ["i3"], "k": 1000, "mask_seen": False}, ["--history", "i3", "-k", "1000", "--no-mask-seen"]),
    ],
)
def test_it_answers_as_the_command_does(body, words, client: TestClient, oovrec, finished: Path) -> None:
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 200
    assert answer.json() == json.loads(oovrec("recommend", finished, *words, "--json").stdout)


def test_every_item_stands_with_its_tokens(client: TestClient, run: Run) -> None:
    table = (run.folder / "tokens" / "item_tokens.tsv").read_text().splitlines()
    tokens = {item: "".join(words) for item, *words in (line.split("\t") for line in table)}
    items = client.post("/recommend", json={"history": ["i3"], "k": 1000}).json()
    assert len(items) == len(tokens) - 1
    assert all(item["tokens"] == tokens[item["id"]] for item in items)


def test_questions_answered_together_are_answered_as_alone(run: Run) -> None:
    asked = [
        Question(run.histories(None, [f"i{number}", f"i{number * 7 % 32}"], None), 1 + number % 5, number % 3 > 0)
        for number in range(12)
    ]
    for question, found in zip(asked, answers(run, asked), strict=True):
        (wanted,) = answers(run, [question])
        assert [item.id for item in found] == [item.id for item in wanted]
        assert [item.score for item in found] == pytest.approx([item.score for item in wanted], abs=1e-5)
        assert len(found) == question.k


def test_who_comes_while_others_are_answered_shares_a_batch() -> None:
    begun, go, batches = threading.Event(), threading.Event(), []

    def answer(questions: list[int]) -> list[int]:
        begun.set()
        assert go.wait(10)
        assert torch.is_autocast_enabled("cpu")  # of the thread that answers
        batches.append(questions)
        if 13 in questions:
            raise ValueError("no answer")
        return [question * 10 for question in questions]

    async def ask() -> list[int | BaseException]:
        together = Together(answer, 4, torch.autocast("cpu", torch.bfloat16))
        first = asyncio.ensure_future(together(0))
        await asyncio.to_thread(begun.wait)
        others = [asyncio.ensure_future(together(number)) for number in (1, 2, 3, 4, 13, 5, 7, 8, 9)]
        await asyncio.sleep(0)
        others[1].cancel()
        go.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        found.append(await together(6))
        together.close()
        return found

    *found, behind, last = asyncio.run(asyncio.wait_for(ask(), 30))
    assert batches == [[0], [1, 2, 3, 4], [13, 5, 7, 8], [9], [6]]
    assert [found[0], found[1], found[3], found[4], behind, last] == [0, 10, 30, 40, 90, 60]
    assert isinstance(found[2], asyncio.CancelledError)
    assert all(isinstance(one, ValueError) for one in found[5:])


def test_requests_side_by_side(client: TestClient) -> None:
    bodies = [{"history": [f"i{number}"], "k": 3} for number in range(32)]
    with client:
        wanted = [client.post("/recommend", json=body).json() for body in bodies]
        found: dict[int, list[dict[str, object]]] = {}

        def ask(number: int) -> None:
            found[number] = client.post("/recommend", json=bodies[number]).json()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [[item["id"] for item in found[number]] for number in range(32)] == [
        [item["id"] for item in items] for items in wanted
    ]


def test_what_is_said_of_the_run(client: TestClient, alone: TestClient, finished: Path) -> None:
    about, metrics = client.get("/run").json(), json.loads((finished / "metrics.json").read_text())
    assert (about["system"], about["data"], about["tokens_from"]) == ("META ID (Llama)", "films", "train")
    assert (about["items"], about["users"], about["figures"]) == (32, 60, metrics["masked"])
    assert alone.get("/run").json() == {**about, "users": None}
    assert client.get("/health").json() == {"status": "ok"}


def test_items_are_found_by_id_and_by_title(client: TestClient) -> None:
    def found(query: str, **more: int) -> list[str]:
        return [item["id"] for item in client.get("/items", params={"query": query, **more}).json()]

    assert found(" i7 ") == ["i7"]
    assert found("fILM [7") == ["i7"]
    assert sorted(found("[1", limit=50)) == sorted(f"i{number}" for number in (1, *range(10, 20)))
    assert found("film", limit=3) == found("film", limit=50)[:3]
    assert found("no such") == found("") == []


@pytest.mark.parametrize(("speaks", "tokens"), [(True, "<I2>"), (False, "")])
def test_the_item_of_an_id_comes_first_then_titles_that_begin_so_then_others(speaks: bool, tokens: str) -> None:
    """Each once; without the tokens of a model that reads none."""
    items = TokenTable.of(["a", "b", "up", "d"], [(f"<I{n}>",) for n in range(4)])
    titles = ["Level up", "Upgrade", "Grow up", "Nothing"]
    entities = Entities(items.ids, [], titles, Tokens(items, None, "meta", "train", 0))
    run = cast("Run", SimpleNamespace(model=SimpleNamespace(entities=entities), speaks=speaks))
    found = Catalogue(run).search(" up ", 9)
    assert [(item["id"], item["title"]) for item in found] == [("up", "Grow up"), ("b", "Upgrade"), ("a", "Level up")]
    assert found[0]["tokens"] == tokens


def test_the_model_is_told_whose_histories_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, recommend = [], type(run.model).recommend

    def asking(model, histories, *words, **more):
        asked.extend(histories.users.tolist())
        return recommend(model, histories, *words, **more)

    monkeypatch.setattr(type(run.model), "recommend", asking)
    histories = (run.histories("u7", None, run.dataset()), run.histories(None, ["i3"], None))
    answers(run, [Question(history, 3, True) for history in histories])
    assert asked == [run.model.entities.users.index("u7"), -1]


def test_a_users_history(run: Run) -> None:
    """Of an id with a stroke."""
    dataset = run.dataset()
    users = [f"{user}/x" for user in dataset.users]
    row, client = users.index("u7/x"), TestClient(application(Service(run, replace(dataset, users=users))))
    wanted = [dataset.items[item] for item in dataset.full[row]]
    assert [item["id"] for item in client.get("/users/u7/x").json()["history"]] == wanted


def test_new_items_of_a_history_are_skipped_where_told(alone: TestClient) -> None:
    known, mixed = ({"history": history, "k": 3} for history in (["i1", "i2"], ["i1", "new", "i2"]))
    wanted = alone.post("/recommend", json=known).json()
    assert alone.post("/recommend", json=mixed | {"skip_unknown": True}).json() == wanted
    assert alone.post("/recommend", json=mixed).status_code == 422


@pytest.mark.parametrize(
    "body", [{"user": "x" * 9999}, {"history": ["x" * 9999]}, {"history": "x" * 9999}, {"x" * 9999: 1}]
)
def test_long_ids_are_not_given_back_whole(body: dict[str, object], client: TestClient) -> None:
    said = client.post("/recommend", json=body).json()["error"]
    assert re.search("'x{150,200}…", said)
    assert len(said) < 500


def test_a_long_users_address(client: TestClient) -> None:
    assert client.get(f"/users/{'x' * 9999}").json() == {"error": f"unknown user '{'x' * 200}…'; see /docs."}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"user": "u77"}, "films: unknown user 'u77'; did you mean 'u7'."),
        ({"history": ["i333"]}, "history: unknown item 'i333'; did you mean 'i3'."),
        ({"history": []}, "the history is empty; give at least one item id."),
        ({}, "give a user or a history, one of the two."),
        ({"user": "u1", "history": ["i1"]}, "give a user or a history, one of the two."),
        ({"histroy": ["i1"]}, "unknown key 'histroy'; did you mean 'history'."),
        ({"user": "u1", "k": 0}, "k: input should be greater than or equal to 1, not 0; change the value."),
        ({"user": "u1", "k": 1001}, "k: input should be less than or equal to 1000, not 1001; change the value."),
        ({"user": "u1", "k": True}, "k: input should be a valid integer, not True; change the value."),
        (
            {"user": "u1", "mask_seen": "yes"},
            "mask_seen: input should be a valid boolean, not 'yes'; change the value.",
        ),
        ({"user": True}, "user: input should be a text or a whole number, not True; change the value."),
        ({"history": ["i1", 2.5]}, "history.1: input should be a text or a whole number, not 2.5; change the value."),
        ({"user": "\ud800"}, "films: unknown user '?'"),
        ({"history": "i1"}, "history: input should be a valid list, not 'i1'; change the value."),
        ([], "body: input should be a valid dictionary; send JSON as application/json, and see /docs."),
    ],
)
def test_it_refuses_in_a_sentence(body, sentence: str, client: TestClient) -> None:
    text = json.dumps(body)  # half a character as \\ud800
    answer = client.post("/recommend", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json().keys() == {"error"}
    assert sentence.removesuffix(".") in answer.json()["error"]


def test_addresses_and_users_that_are_not_there(client: TestClient, alone: TestClient) -> None:
    for address in ("/users/nobody", "/nothing"):
        answer = client.get(address)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert client.get("/items").json() == {"error": "query.query: field required; see /docs."}
    assert alone.get("/users/u7").status_code == 404
    assert client.get("/users/u7?limit=3").status_code == 422
    answer = client.get("/items?query=a&limt=3")
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "query: unknown parameter 'limt'; did you mean 'limit'."},
    )
    answer = client.post("/recommend?k=3", json={"user": "u7"})
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "query: 'k' stands in the query; send it in the body."},
    )
    assert client.post("/recommend", content="{").status_code == 422
    answer = client.post("/recommend", content=b"\xff", headers={"Content-Type": "application/json"})
    said = "body: cannot be read; send JSON as application/json, and see /docs."
    assert (answer.status_code, answer.json()) == (400, {"error": said})
    answer = alone.post("/recommend", json={"user": "u7"})
    assert (answer.status_code, "--data" in answer.json()["error"]) == (422, True)
    assert alone.post("/recommend", json={"history": ["i1"]}).status_code == 200


def test_a_method_that_an_address_has_not_is_told_which_it_has(client: TestClient) -> None:
    answer = client.get("/recommend")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_the_page_needs_nothing_from_elsewhere(client: TestClient, alone: TestClient) -> None:
    shown = client.get("/").text
    assert "META ID (Llama) on films" in shown
    assert not re.findall(r"https?://", shown)
    assert "Saw held-out" not in shown
    assert ('id="user"' in shown, 'id="user"' in alone.get("/").text) == (True, False)


def test_the_page_of_addresses_names_all_that_they_take_and_needs_nothing_from_elsewhere(alone: TestClient) -> None:
    shown = re.sub(r"<[^>]+>", " ", alone.get("/docs").text)
    told = " ".join(shown.split())
    described = alone.get("/openapi.json").json()["paths"]
    assert set(described) == {"/health", "/run", "/items", "/users/{user}", "/recommend"}
    for path, operations in described.items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path} {operation['description']}" in told
    for line in (
        "query string an id, or words of a title limit integer, 1 to 1,000 20 how many items, at most",
        "user string or integer an id of the run&#39;s data; everything the user is known to have taken is the history",
        "history array of string or integer item ids, oldest first k integer, 1 to 1,000 10 how many items",
        "mask_seen boolean true leave the history&#39;s own items out skip_unknown boolean false go by",
    ):
        assert line in told
    assert set(re.findall(r"https?://[^/]+/", alone.get("/docs").text)) == {"http://testserver/"}
    (example,) = re.findall(r"-d '(.*)'", html.unescape(alone.get("/docs").text))
    assert len(alone.post("/recommend", json=json.loads(example)).json()) == 5


def test_a_model_whose_tokens_saw_the_answers_says_so(log: Path, oovrec, tmp_path: Path) -> None:
    quick = ("--set", "training.epochs=1", "--set", "model.shape=debug")
    oovrec("train", "metaid-llama", "--data", log, "--from", "all", "--out", tmp_path / "run", *quick)
    leaky = TestClient(application(Service(load_run(tmp_path / "run"), None)))
    assert "Saw held-out interactions" in leaky.get("/").text
    about = leaky.get("/run").json()
    assert (about["tokens_from"], about["figures"]) == ("all", None)


def test_a_port_that_is_taken(oovrec, finished: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = oovrec("serve", finished, "--port", port, code=2).stderr
    assert said.startswith(f"error: 127.0.0.1:{port}: cannot listen there (Address already in use)")


@contextmanager
def server(run: Path, command: str = COMMAND) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server of its own process, and its port."""
    words = [sys.executable, "-c", command, "serve", str(run), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert port, (line, process.communicate())
        yield process, int(port[1])
    finally:
        process.kill()


def assert_heads_are_those_of_get(port: int) -> None:
    """As who watches a server may ask for them: with HEAD, and without the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for path, status in {"/": 200, "/health": 200, "/users/nobody": 404, "/nowhere": 404, "/recommend": 405}.items():
        heads = []
        for method in ("GET", "HEAD"):  # on one connection: a body after a HEAD would be read as the next answer
            connection.request(method, path)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (status, method == "GET")
            heads.append({name: value for name, value in answer.getheaders() if name != "date"})
        assert heads[0] == heads[1]


def test_a_server_from_start_to_ctrl_c(finished: Path) -> None:
    with server(finished) as (process, port):
        body = json.dumps({"user": "u7", "k": 2}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/recommend", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert len(json.load(answer)) == 2
        assert_heads_are_those_of_get(port)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


def listening(port: int) -> bool:
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60):
        return True
    return False


def test_who_has_asked_when_a_server_is_stopped_is_answered(finished: Path) -> None:
    """Whoever sends no more than half a request is waited for a while, and told."""
    body = json.dumps({"user": "u7", "k": 2}).encode()
    head = (
        f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with server(finished, f"from oovrec.app import serve; serve.LAST = 3; {COMMAND}") as (process, port):
        asking, stuck = (socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(2))
        for one in (asking, stuck):
            one.sendall(head.encode() + body[:5])
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60).close()  # so they were heard, too
        process.send_signal(signal.SIGTERM)
        while listening(port):
            time.sleep(0.01)
        asking.sendall(body[5:])
        answers = [one.makefile(encoding="utf-8", newline="").read() for one in (asking, stuck)]
        _, said = process.communicate(timeout=60)
    assert (answers[0].split()[1], len(json.loads(answers[0].partition("\r\n\r\n")[2]))) == ("200", 2)
    assert answers[1].split()[1] == "503"
    assert '{"error":"the server is stopping; ask again later."}' in answers[1]
    assert (process.returncode, "Traceback" in said) == (-signal.SIGTERM, False)


def test_ctrl_c_once_more_waits_for_nobody(finished: Path) -> None:
    with server(finished) as (process, port), socket.create_connection(("127.0.0.1", port), timeout=60) as stuck:
        stuck.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60).close()  # so it was heard, too
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "stopping when those who have asked are answered, in 20 s" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=15)
    assert (process.returncode, said) == (0, "")


def test_no_address_is_not_every_address(run: Run) -> None:
    with pytest.raises(OovrecError, match=r"^--host: is empty; give 127\.0\.0\.1, or 0\.0\.0\.0 for every address\.$"):
        serve(run, "", 0)


def test_an_address_of_colons_is_of_the_other_family_and_stands_in_brackets(run: Run, monkeypatch, capsys) -> None:
    made = MagicMock()  # no machine need have such an address
    made.return_value.__enter__.return_value.getsockname.return_value = ("::1", 8123, 0, 0)
    monkeypatch.setattr(serving._Server, "run", lambda *_, **__: None)
    monkeypatch.setattr(socket, "socket", made)
    serve(run, "::1", 0)
    made.assert_called_once_with(socket.AF_INET6)
    assert "at http://[::1]:8123 (" in capsys.readouterr().out


def test_data_that_are_named_must_be_there(run: Run, monkeypatch) -> None:
    monkeypatch.setattr(serving._Server, "run", lambda *_, **__: None)
    with pytest.raises(OovrecError, match=r"nowhere\.csv: no such file"):
        serve(run, "127.0.0.1", 0, "nowhere.csv")
