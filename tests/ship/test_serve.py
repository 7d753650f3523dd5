"""The service's promises: what the types say is what is answered; a mistake is one line of a 4xx, never a 5xx."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from daybreak_toys.serving import Letter, Server, Size

from daybreak.cli import main
from daybreak.errors import UserError
from daybreak.lab import registry

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from serving import forget, remove, running, version

from daybreak.lab.ship.serve.guard import token
from daybreak.lab.ship.serve.run import bound


def coded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def until(true, seconds: float = 10.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Server(Size(factor=2.0)).save(tmp_path_factory.mktemp("model") / "server")


@pytest.fixture(scope="module")
def toy(folder):
    """A service that most tests share."""
    with running(None, f"toy={folder}", seconds=20, patience=1.0) as service:
        yield service


def test_each_action_is_a_route_and_the_answer_says_which_version_gave_it(toy, folder):
    answer = toy.post("toy/scale", {"x": 3})
    assert (answer.status_code, answer.json()) == (200, {"y": 6.0})
    assert answer.headers["daybreak-model"] == str(folder)
    assert len(answer.headers["x-request-id"]) == 16


def test_a_whole_number_may_be_written_with_a_point_as_its_schema_says(toy):
    assert toy.post("toy/count", {"to": 2.0, "pause": 0}).text.count('data: {"n"') == 2


def test_media_come_and_go_as_base64_or_as_the_parts_of_a_form(toy):
    asked = {"word": "yes", "kind": "twice", "letter": coded("oh "), "style": {"loud": True}}
    answer = toy.post("toy/say", asked).json()
    assert answer == {"text": "OH YESOH YES", "letter": coded("OH YESOH YES")}
    form = {"request": (None, json.dumps({"word": "no", "kind": "twice"})), "letter": ("a.txt", b"oh ")}
    answer = httpx.post(f"{toy.url}/v1/toy/say", files=form).json()
    assert answer["text"] == "oh nooh no"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("scale", {"x": "3"}, 422, "x: it should be a valid number"),
        ("scale", {}, 422, "x: Field required"),
        ("scale", {"x": 3, "z": 1}, 422, "unknown field 'z'"),
        ("count", {"to": 2.5}, 422, "to: it should be a valid integer"),
        ("scale", {"x": 1e9}, 422, "less than or equal to 1000"),
        ("scale", [1], 422, "the request: "),
        ("say", {"word": "maybe"}, 422, "word: these weights know no 'maybe'; there is: no, yes"),
        ("say", {"kind": "thrice"}, 422, "kind: it should be 'plain' or 'twice'"),
        ("say", {"letter": "/etc/passwd"}, 422, "letter: takes the bytes of a .txt file in base64, never a path"),
        ("say", {"letter": "http://example.com/a.txt"}, 422, "never a path or an address"),
        ("say", {"letter": coded(b"\xff\xfe")}, 422, "letter: not text"),
        ("say", {"letter": coded(b"a" * (2**20 + 1))}, 422, "at most"),
        ("say", {"tags": ["a"] * 5}, 422, "tags: "),
        ("say", {"style": {"laud": True}}, 422, "unknown field 'style.laud'; did you mean style.loud?"),
        ("wait", {"fault": "refuse"}, 409, "this cannot be done"),
        ("look", {"x": 1}, 409, "no book is open"),
        ("count", {"to": 3, "fail": 0}, 409, "no further than 0"),
    ],
)
def test_a_mistake_is_one_line_with_what_would_work(toy, path, body, status, said):
    found, line = toy.refused(f"toy/{path}", body)
    assert found == status
    assert said in line


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"x": NaN}', "application/json", 422),
        (b'{"x": -Infinity}', "application/json", 422),
        (b'{"x": 1e999}', "application/json", 422),
        (b'{"x": "\\ud800"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"x=1", "application/x-www-form-urlencoded", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=a", 400),
        (b"{}", "text/plain", 415),
    ],
)
def test_a_body_that_is_no_request_is_refused(toy, body, kind, status):
    answer = httpx.post(f"{toy.url}/v1/toy/scale", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"]


def test_what_is_not_there_names_the_nearest(toy):
    assert toy.refused("tyo/scale", {}) == (404, "no model 'tyo' is served; did you mean toy?")
    assert toy.refused("toy/scael", {}) == (404, "toy has no action 'scael'; did you mean scale?")
    assert toy.refused("toy/../../etc/passwd", {})[0] == 404
    answer = httpx.get(f"{toy.url}/v1/toy/scale")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_an_action_that_fails_inside_is_a_500_whose_words_stay_inside(toy):
    status, line = toy.refused("toy/wait", {"fault": "crash"})
    assert status == 500
    written = "\n".join(toy.lines)
    assert "RuntimeError at " in written
    assert "secret words" not in line + written
    assert toy.post("toy/scale", {"x": 1}).json() == {"y": 2.0}


def test_a_number_that_is_not_finite_is_null_as_the_schema_says(toy):
    assert toy.post("toy/wait", {"fault": "nan"}).json() == {"y": None}


def test_a_stream_comes_as_events_and_says_its_end_or_its_error(toy):
    answer = toy.post("toy/count", {"to": 3})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == 'data: {"n":0}\n\ndata: {"n":1}\n\ndata: {"n":2}\n\nevent: end\ndata: {}\n\n'
    assert toy.post("toy/count", {"to": 0}).text == "event: end\ndata: {}\n\n"
    tail = 'data: {"n":0}\n\nevent: error\ndata: {"error": "no further than 1"}\n\n'
    assert toy.post("toy/count", {"to": 3, "fail": 1}).text == tail


def test_a_socket_takes_request_after_request(toy):
    client = pytest.importorskip("websockets.sync.client")
    with client.connect(f"{toy.url.replace('http', 'ws')}/v1/toy/count") as ws:
        ws.send('{"to": 2}')
        got = [json.loads(ws.recv()) for _ in range(3)]
        assert [one.get("answer") for one in got] == [{"n": 0}, {"n": 1}, None]
        assert got[2]["end"] is True
        ws.send('{"to": "x"}')
        assert json.loads(ws.recv())["status"] == 422
    with client.connect(f"{toy.url.replace('http', 'ws')}/v1/toy/scale") as ws:
        for x in range(3):
            ws.send(json.dumps({"x": x}))
            assert json.loads(ws.recv())["answer"] == {"y": 2.0 * x}


def test_a_stream_is_pulled_by_its_reader_and_lets_others_in_between(toy):
    with httpx.stream("POST", f"{toy.url}/v1/toy/count", json={"to": 1000, "pause": 0.01}) as slow:
        lines = slow.iter_lines()
        next(lines)
        assert (
            toy.post(
                "toy/scale",
                {"x": 1},
            ).status_code
            == 200
        )
        Server.stopped.clear()
    until(lambda: "count" in Server.stopped)
    until(lambda: toy.service.workers[0].taken == 0)


def test_a_client_that_leaves_stops_what_runs_for_it(toy):
    Server.stopped.clear()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{toy.url}/v1/toy/wait", json={"seconds": 15}, timeout=0.2)
    until(lambda: "wait" in Server.stopped, 5)
    assert toy.post("toy/scale", {"x": 1}).status_code == 200
    until(lambda: any(json.loads(line).get("status") == 499 for line in toy.lines))


def test_a_client_that_leaves_as_its_answer_is_made_keeps_no_lock(folder):
    with running(None, f"toy={folder}") as service:
        (worker,) = service.service.workers
        asked = threading.Thread(target=service.post, args=("toy/wait", {"seconds": 0.3}))
        asked.start()
        until(lambda: worker._running)
        with worker._there:  # where the thread comes when its work is over
            (job,) = worker._running
            time.sleep(0.6)
            worker._cancel(job)
        until(lambda: not worker._running)
        asked.join()
        again = threading.Thread(target=service.post, args=("toy/wait", {"seconds": 1}))
        again.start()
        until(lambda: worker._running)
        assert worker._there.acquire(timeout=0.5), "the lock is kept while an action runs: nobody could be served"
        worker._there.release()
        again.join()


def test_a_request_that_takes_too_long_is_stopped_and_told(folder):
    with running(None, f"toy={folder}", seconds=0.3) as service:
        Server.stopped.clear()
        assert service.refused("toy/wait", {"seconds": 30}) == (409, "wait took longer than 0.3 s; ask for less")
        until(lambda: "wait" in Server.stopped, 5)
        assert service.post("toy/scale", {"x": 1}).status_code == 200


def test_a_full_queue_says_when_to_try_again(folder):
    with running(None, f"toy={folder}", places=2) as service:
        asking = [threading.Thread(target=service.post, args=("toy/wait", {"seconds": 2})) for _ in range(2)]
        for one in asking:
            one.start()
        until(lambda: service.service.workers[0].taken == 2)
        answer = service.post("toy/scale", {"x": 1})
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        assert httpx.get(f"{service.url}/readyz").json()["full"] == ["toy"]
        for one in asking:
            one.join()
        assert service.post("toy/scale", {"x": 1}).status_code == 200


def test_requests_that_wait_are_answered_together_and_one_mistake_is_its_own(toy):
    answers: dict[float, httpx.Response] = {}
    Server.batches.clear()

    def ask(x: float) -> None:
        answers[x] = toy.post("toy/scale", {"x": x})

    for count, first in ((6, 20), (4, 11)):  # the second time with thirteen, which `scale_many` fails on
        hold = threading.Thread(target=toy.post, args=("toy/wait", {"seconds": 0.5}))
        hold.start()
        until(lambda: toy.service.workers[0].busy > 0)
        threads = [threading.Thread(target=ask, args=(x,)) for x in range(first, first + count)]
        for one in threads:
            one.start()
        for one in [*threads, hold]:
            one.join()
    assert {x: answer.json()["y"] for x, answer in answers.items()} == {x: 2.0 * x for x in answers}
    assert max(Server.batches) > 1


def test_a_large_upload_is_refused_before_it_is_read(toy):
    with socket.create_connection(("127.0.0.1", toy.port)) as raw:
        raw.sendall(b"POST /v1/toy/say HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000000000\r\n\r\n")
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]

    def endless():
        while True:
            yield b" " * 65536

    answer = None
    with contextlib.suppress(httpx.TransportError):  # the pipe may break while it is sent: the service stops reading
        answer = httpx.post(f"{toy.url}/v1/toy/say", content=endless(), headers={"content-type": "application/json"})
    assert answer is None or answer.status_code == 413
    assert toy.service.held.now == 0


def test_half_a_request_and_a_slow_client_are_let_go(toy):
    with (
        socket.create_connection(("127.0.0.1", toy.port)) as head,
        socket.create_connection(("127.0.0.1", toy.port)) as body,
    ):
        head.sendall(b"POST /v1/toy/scale HTT")
        body.sendall(
            b"POST /v1/toy/scale HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b'content-length: 8\r\n\r\n{"x"'
        )
        for one in (head, body):
            one.settimeout(10)
        assert head.recv(4096) == b""
        assert b" 408 " in body.recv(4096).split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", toy.port)) as raw:  # and one that leaves in the middle
        raw.sendall(b"POST /v1/toy/scale HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n{")
    until(lambda: toy.service.workers[0].taken == 0)


def test_pages_from_elsewhere_and_names_that_are_not_ours_are_refused(toy):
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}, {"origin": "null"}):
        answer = httpx.post(f"{toy.url}/v1/toy/scale", json={"x": 1}, headers=headers)
        assert answer.status_code == 403
    own = httpx.post(f"{toy.url}/v1/toy/scale", json={"x": 1}, headers={"origin": toy.url})
    assert own.status_code == 200


def test_a_token_is_wanted_where_there_is_one(folder):
    secret = "s" * 24
    with running(None, f"toy={folder}", token=secret) as service:
        assert service.post("toy/scale", {"x": 1}).status_code == 200
        for given in ("", "Bearer", f"Bearer {secret}x", f"Basic {secret}", "Bearer é"):
            headers = {"authorization": given.encode("latin-1")} if given else {}
            for path in ("v1/toy/scale", "metrics", "docs"):
                answer = httpx.post(f"{service.url}/{path}", json={"x": 1}, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        assert secret not in "\n".join(service.lines)


def test_a_token_is_needed_off_loopback_and_its_file_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("DAYBREAK_TOKEN", raising=False)
    assert token(None, "127.0.0.1") == ""
    with pytest.raises(UserError, match="can be reached from elsewhere"):
        token(None, "0.0.0.0")
    file = tmp_path / "token"
    file.write_text("x" * 20 + "\n")
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        token(file, "0.0.0.0")
    file.chmod(0o600)
    assert token(file, "0.0.0.0") == "x" * 20
    monkeypatch.setenv("DAYBREAK_TOKEN", "short")
    with pytest.raises(UserError, match="at least 16"):
        token(None, "127.0.0.1")


def test_a_port_in_use_is_one_line():
    with bound("127.0.0.1", 0) as taken, pytest.raises(UserError, match=r"cannot listen on 127\.0\.0\.1 port") as said:
        bound("127.0.0.1", taken.getsockname()[1])
    assert "\n" not in str(said.value)


def test_the_document_is_the_types_with_the_limits_of_these_weights(toy):
    about = httpx.get(f"{toy.url}/openapi.json").json()
    assert set(about["paths"]) == {f"/v1/toy/{name}" for name in ("scale", "say", "count", "wait", "look")}
    say = about["paths"]["/v1/toy/say"]["post"]
    asked = say["requestBody"]["content"]["application/json"]["schema"]
    assert asked["properties"]["word"]["enum"] == ["yes", "no", ""]
    assert "These weights: yes, no." in asked["properties"]["word"]["description"]
    (letter, _) = asked["properties"]["letter"]["anyOf"]
    assert (letter["contentEncoding"], letter["contentMediaType"]) == ("base64", "text/plain")
    assert set(say["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert "text/event-stream" in about["paths"]["/v1/toy/count"]["post"]["responses"]["200"]["content"]
    text = json.dumps(about)
    for ref in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert ref in about["components"]["schemas"]
    page = httpx.get(f"{toy.url}/docs")
    assert "/v1/toy/say" in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_metrics_and_lines_count_and_hold_no_word_of_a_request(toy):
    toy.post("toy/say", {"letter": coded("private words"), "word": "yes"})
    toy.post("nothing/private-words", {})
    text = httpx.get(f"{toy.url}/metrics").text
    assert 'daybreak_requests_total{action="say",model="toy",status="200"}' in text
    assert "daybreak_model_info" in text
    until(lambda: any(json.loads(line).get("action") == "say" for line in toy.lines))
    for line in toy.lines:
        assert {"time", "event"} <= set(json.loads(line))
    assert "private" not in text + "\n".join(toy.lines)


def test_a_resource_is_opened_by_the_operator(folder, tmp_path):
    (tmp_path / "words").write_text("one two")
    with running(None, f"toy={folder}", resources={"book": str(tmp_path / "words")}) as service:
        assert service.post("toy/look", {"x": 1}).json()["text"] == "two"
    with (
        pytest.raises(UserError, match="takes no resource 'bok'; did you mean book"),
        running(None, f"toy={folder}", resources={"bok": "x"}),
    ):
        pass


def test_an_alias_is_followed_under_load_without_a_failed_request(lab):
    for number in (1, 2):
        version(lab, number)
    registry.promote(lab, "toy-server@1")
    with running(lab, "toy-server") as service:
        seen: list[tuple[int, str, float]] = []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client() as client:
                while not stop.is_set():
                    answer = client.post(f"{service.url}/v1/toy-server/scale", json={"x": 1})
                    seen.append((answer.status_code, answer.headers["daybreak-model"], answer.json()["y"]))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for one in threads:
            one.start()
        named = service.service.workers[0].named
        for swap, number in enumerate((2, 1, 2, 1), 1):
            if number == 2:
                registry.promote(lab, "toy-server@2")
            else:
                registry.rollback(lab, "toy-server")
            until(lambda swap=swap: named.swaps == swap)
            count = len(seen)
            until(lambda count=count: len(seen) > count + 8)
            assert seen[-1][1] == f"toy-server@{number}"
        stop.set()
        for one in threads:
            one.join()
    assert {status for status, _, _ in seen} == {200}
    assert {(title, y) for _, title, y in seen} == {("toy-server@1", 1.0), ("toy-server@2", 2.0)}


def test_what_cannot_answer_never_takes_over_and_health_says_so(lab):
    for number in (1, 2):
        version(lab, number)
    registry.promote(lab, "toy-server@1", "canary")
    with running(lab, "canary=toy-server@canary") as service:

        def status() -> str:
            return httpx.get(f"{service.url}/healthz").json()["status"]

        assert status() == "ok"
        forget(lab, "canary")
        until(lambda: status() == "degraded")
        answer = service.post("canary/scale", {"x": 1})
        assert answer.headers["daybreak-model"] == "toy-server@1"
        note = httpx.get(f"{service.url}/healthz").json()["models"]["canary"]["note"]
        assert "no version or alias 'canary'" in note
        assert "toy-server@1 answers" in note
        (lab.registry / "toy-server" / "2" / "weights.safetensors").write_bytes(b"broken")
        registry.promote(lab, "toy-server@2", "canary")
        until(lambda: "cannot be read" in httpx.get(f"{service.url}/healthz").json()["models"]["canary"]["note"])
        assert service.post("canary/scale", {"x": 1}).json() == {"y": 1.0}
        remove(lab.registry / "toy-server" / "2")
        version(lab, 3)
        registry.promote(lab, "toy-server@3", "canary")
        until(lambda: status() == "ok")
        assert service.post("canary/scale", {"x": 1}).json() == {"y": 3.0}


def test_media_are_bytes_in_python_and_never_paths():
    from daybreak_toys.serving import Say

    assert Say(letter=Letter("a")).model_dump(mode="json")["letter"] == coded("a")
    for wrong in ("/etc/passwd", 3):
        with pytest.raises(ValueError, match="instance of Letter"):
            Say(letter=wrong)


def test_the_command_refuses_in_one_line(folder, lab, capsys, monkeypatch):
    monkeypatch.delenv("DAYBREAK_TOKEN", raising=False)
    with bound("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        for argv, said in {
            (f"a={folder}", "--port", port): "in use",
            (f"a={folder}", f"a={folder}", "--port", "0"): "served already",
            (f"a={folder}", "--host", "0.0.0.0"): "needs a token",
            ("nothing", "--port", "0"): "no registered model",
            ("toy-server@7", "--port", "0"): "no registered model",
            (f"a={folder}", "--hots", "x"): "did you mean --host",
            (f"a={folder}", "--port", "0", "--resource", "b.book=x"): "no such model is served; there is: a",
            (f"a={folder}", "--port", "0", "--resource", "a.book"): "is MODEL.NAME=PATH",
            ("a b=c", "--port", "0"): "cannot stand in an address",
            (): "name what to serve",
        }.items():
            with pytest.raises(SystemExit) as stop:
                main(["serve", *argv])
            err = capsys.readouterr().err
            assert (stop.value.code, err.count("\n")) == (2, 1), err
            assert said in err


def test_the_command_answers_and_stops_when_told(folder, tmp_path):
    env = {**os.environ, "DAYBREAK_LAB": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "daybreak", "serve", f"toy={folder}", "--port", "0"]
    process = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = ""
    while not line.endswith("look\n"):
        line = process.stderr.readline()
        assert line, "it ended"
    address, _, actions = line.partition(": ")
    assert actions == f"{folder}: scale, say, count, wait, look\n"
    assert httpx.post(f"{address}/scale", json={"x": 1}).json() == {"y": 2.0}
    process.terminate()
    assert process.wait(20) in (0, -15)
    process.stderr.close()
