"""The kiosk's promises: a form is its types, an old version's failure is told, nothing is kept without consent."""

from __future__ import annotations

import json
import string
from datetime import date, timedelta
from pathlib import Path

import pytest
from daybreak_toys.mlp import Ask, MlpModel
from daybreak_toys.serving import Count, Letter, Said, Say, Server, Size, Wait
from serving import version

from daybreak.errors import UserError
from daybreak.lab.lake import Lake
from daybreak.lab.ship.kiosk import feedback, shown, story
from daybreak.lab.ship.kiosk.fields import plan, request_of
from daybreak.lab.ship.kiosk.words import LANGUAGES, WORDS, word

KNOWN = {"word": ["yes", "no"], "most": 3}
CONSENT = "I agree."


def given(**more: object) -> feedback.Feedback:
    about = {"thumb": "up", "note": "nice", **more}
    request = Say(word="yes", letter=Letter("in"))
    return feedback.Feedback("toy", "toy-server@1", "say", request, Said(text="yes", letter=Letter("out")), **about)


def test_each_type_has_its_field_and_what_is_entered_is_the_request(tmp_path):
    fields = plan(Say, KNOWN)
    assert {one.name: one.kind for one in fields} == {
        "word": "choice", "kind": "choice", "letter": "media", "style.loud": "switch", "tags": "text",
    }  # fmt: skip
    assert fields[0].choices == ("", "yes", "no")
    kinds = {one.name: one.kind for request in (Count, Wait) for one in plan(request, {})}
    assert kinds == {"to": "slider", "pause": "slider", "fail": "slider", "seconds": "slider", "fault": "choice"}
    (samples,) = plan(Ask, {})
    assert (samples.kind, samples.required) == ("text", True)
    (tmp_path / "a.txt").write_text("oh ")
    say = Server.actions()["say"]
    request = request_of(say, fields, ["yes", "twice", str(tmp_path / "a.txt"), True, "a, b"], KNOWN, tmp_path)
    assert (request.letter.text, request.style.loud, request.tags) == ("oh ", True, ("a", "b"))
    assert request_of(say, fields, [None, "plain", None, False, ""], KNOWN, tmp_path) == Say()


def test_a_mistake_names_the_field_and_only_uploads_are_read(tmp_path):
    say, fields = Server.actions()["say"], plan(Say, KNOWN)
    for values, said in (
        ([None, "plain", "/etc/passwd", False, ""], "letter: only what was uploaded here"),
        ([None, "plain", str(tmp_path / ".." / "x"), False, ""], "letter: only what was uploaded here"),
        (["maybe", "plain", None, False, ""], "word: these weights know no 'maybe'"),
        ([None, "plain", None, False, "a,b,c,d,e"], "tags "),
    ):
        with pytest.raises(UserError, match=said):
            request_of(say, fields, values, KNOWN, tmp_path)


def test_an_answer_is_html_in_which_nothing_can_run():
    drawn = shown.html(Said(text="<script>alert(1)</script>", letter=Letter("x")))
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "<p>letter</p>" in drawn
    assert 'download="letter.txt"' in drawn
    assert shown.html([float("nan"), 1.23456, True]) == "<p>-, 1.235, ✓</p>"


def test_both_languages_have_every_word_with_the_same_places():
    assert set(WORDS) == set(LANGUAGES)
    for key in WORDS["en"]:
        places = [{name for _, name, _, _ in string.Formatter().parse(WORDS[code][key]) if name} for code in LANGUAGES]
        assert places[0] == places[1], key
    assert set(WORDS["en"]) == set(WORDS["ko"])
    assert word("fr", "run") == word("en", "run")


def test_a_story_asks_every_version_the_same_and_tells_failures(lab):
    for number in (1, 2, 3):
        version(lab, number)
    (lab.registry / "toy-server" / "2" / "weights.safetensors").write_bytes(b"broken")
    action, request = story.fixed(Server(Size()), {"action": "scale", "request": {"x": 5}})
    told = list(story.chapters(lab, "toy-server", action, request, {}))
    assert [one.title for one in told] == [f"toy-server@{n}" for n in (1, 2, 3)]
    assert ("5" in told[0].html, "15" in told[2].html) == (True, True)
    assert "cannot be read" in told[1].failure


def test_a_fixed_request_is_made_up_from_types_or_told():
    action, request = story.fixed(MlpModel(MlpModel.Config()), {})
    assert (action.name, request.x) == ("predict", (0.0,) * 16)
    with pytest.raises(UserError, match=r"kiosk\.toml: a story needs one of the actions"):
        story.fixed(Server(Size()), {"action": "scael"})
    with pytest.raises(UserError, match=r"kiosk\.toml: scale: --x"):
        story.fixed(Server(Size()), {"action": "scale", "request": {"x": "much"}})


def test_feedback_comes_home_with_consent_provenance_and_an_end(lab):
    end = feedback.keep(
        lab, given(corrected={"text": b"no"}), CONSENT, days=30, licence="Private",
    )  # fmt: skip
    lake = Lake.open(lab)
    (item,) = lake.items("toy-feedback")
    assert (item.consent, item.source, item.licence) == (CONSENT, "kiosk", "Private")
    assert item.labels == {"version": "toy-server@1", "action": "say", "thumb": "up", "expires": end.isoformat()}
    about = json.loads(lake.read(item))
    assert about["request"]["letter"] == {"part": "request.letter", "mime": "text/plain"}
    assert (about["note"], about["corrected"]) == ("nice", ["text"])
    for part, data in {"request.letter": b"in", "answer.letter": b"out", "corrected.text": b"no"}.items():
        assert lake.read(item, part) == data
    assert list(lake.items("toy")) == []
    assert feedback.expire(lab, end) == 0
    assert feedback.expire(lab, end + timedelta(days=1)) == 1
    assert list(lake.items("toy-feedback")) == []
    lake.close()


@pytest.mark.parametrize(
    ("more", "consent", "said"),
    [
        ({}, " ", "without consent nothing is kept"),
        ({"thumb": "", "note": " "}, CONSENT, "nothing to keep yet"),
        ({"note": "a" * 2001}, CONSENT, "at most 2000 letters"),
    ],
)
def test_feedback_without_consent_or_content_is_not_kept(lab, more, consent, said):
    with pytest.raises(UserError, match=said):
        feedback.keep(lab, given(**more), consent, days=1, licence="Private")
    lake = Lake.open(lab)
    assert list(lake.items("toy-feedback")) == []
    lake.close()


@pytest.fixture
def kiosk(lab):
    pytest.importorskip("gradio")
    from daybreak.lab.ship.kiosk.screen import Kiosk, Settings
    from daybreak.lab.ship.named import Named

    version(lab, 1)
    return Kiosk(lab, [Named(lab, "toy-server")], Settings(days=7))


def test_the_screen_has_a_form_an_action_and_turns_with_the_language(kiosk):
    from daybreak.lab.ship.kiosk.screen import Screen, head

    screen = Screen(kiosk)
    drawn = json.dumps(screen.blocks.get_config_file(), default=str)
    for text in (*Server.actions(), "Try it", "Its story", "A word that the weights know.", "Full screen"):
        assert text in drawn
    assert {words("ko") for _, name, words in screen.framed if name == "value"} >= {"해 보기", "전체 화면"}
    assert "toy-server@1" in head(kiosk)


def test_a_visit_asks_follows_a_promotion_and_gives_back(kiosk):
    from daybreak.lab import registry

    (named,) = kiosk.models
    scale = Server.actions()["scale"]
    fields = plan(scale.request, {})
    (turn,) = kiosk.answer(named, scale, fields, [3])
    assert turn.answer.y == 3.0
    count = Server.actions()["count"]
    assert [len(turn.answer) for turn in kiosk.answer(named, count, plan(Count, {}), [3, 0.0, -1])] == [1, 2, 3]
    version(kiosk.lab, 2)
    registry.promote(kiosk.lab, "toy-server@2")
    (turn,) = kiosk.answer(named, scale, fields, [3])
    assert (turn.loaded.title, turn.answer.y) == ("toy-server@2", 6.0)
    assert [one.title for one in kiosk.story(named)] == ["toy-server@1", "toy-server@2"]
    end = kiosk.keep(named, turn, {"thumb": "down", "corrected": "7"}, CONSENT, "v1")
    assert end > date.today()
    with pytest.raises(UserError, match="only what was uploaded"):
        kiosk.keep(named, turn, {"file": "/etc/passwd"}, CONSENT, "v1")


def test_settings_come_from_a_file_and_mistakes_are_one_line(lab):
    pytest.importorskip("gradio")
    from daybreak.lab.ship.kiosk.run import settings

    assert settings(None).idle == 90
    file = lab.root / "kiosk.toml"
    file.write_text('title = "Demo day"\nidle = 30\n[stories.toy-server]\naction = "scale"\nrequest = { x = 2 }\n')
    assert (settings(lab).title, settings(lab).stories["toy-server"]["action"]) == ("Demo day", "scale")
    for text, said in {"tilte = 1": "did you mean title", "idle = 'x'": "idle: ", "=": "is not TOML"}.items():
        file.write_text(text)
        with pytest.raises(UserError, match=said) as wrong:
            settings(lab)
        assert "\n" not in str(wrong.value)


def test_a_page_may_fetch_from_here_alone(kiosk):
    from starlette.testclient import TestClient

    from daybreak.lab.ship.kiosk.run import application

    with TestClient(application(kiosk), base_url="http://127.0.0.1") as client:
        got = client.get("/")
        assert got.status_code == 200
        assert "default-src 'self'" in got.headers["content-security-policy"]
        assert "fonts.googleapis" not in got.text
        assert client.get("/", headers={"host": "evil.example"}).status_code == 403
        for path in ("/etc/passwd", "../../etc/passwd", str(kiosk.lab.root / "lab.json")):
            assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def paged(path, text="<title>hi</title>"):
    """Leave a page where `daybreak export MODEL --to page` does."""
    (path / "exports" / "page").mkdir(parents=True, exist_ok=True)
    (path / "exports" / "page" / "index.html").write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))


def test_a_model_with_a_page_shows_it_and_one_without_does_not(kiosk):
    from daybreak.lab.ship.kiosk.screen import Screen

    assert "/page/" not in json.dumps(Screen(kiosk).blocks.get_config_file(), default=str)
    paged(kiosk.lab.registry / "toy-server" / "1")
    screen = Screen(kiosk)
    drawn = json.dumps(screen.blocks.get_config_file(), default=str)
    assert 'src=\\"/page/toy-server\\"' in drawn
    assert 'download=\\"toy-server.html\\"' in drawn
    assert {words("ko") for _, name, words in screen.framed if name == "label"} >= {"브라우저에서"}


def test_a_page_is_served_alone_and_follows_a_promotion(kiosk):
    from starlette.testclient import TestClient

    from daybreak.lab import registry
    from daybreak.lab.ship.kiosk.run import application

    paged(kiosk.lab.registry / "toy-server" / "1", "<p>one</p>")
    with TestClient(application(kiosk), base_url="http://127.0.0.1") as client:
        got = client.get("/page/toy-server")
        assert (got.status_code, got.content[2:].decode("utf-16-le")) == (200, "<p>one</p>")
        assert got.headers["content-type"] == "text/html; charset=utf-16"
        policy = got.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        for path in ("", "toy", "toy-server/", "toy-server/manifest.json", "..%2f..%2frecord.json", "%2fetc%2fpasswd"):
            assert client.get(f"/page/{path}").status_code == 404, path
        assert client.post("/page/toy-server").status_code == 405
        assert client.get("/page/toy-server", headers={"host": "evil.example"}).status_code == 403
        version(kiosk.lab, 2)
        paged(kiosk.lab.registry / "toy-server" / "2", "<p>two</p>")
        registry.promote(kiosk.lab, "toy-server@2")
        kiosk.models[0].follow()
        assert "two" in client.get("/page/toy-server").content.decode("utf-16")


def test_a_page_is_for_those_who_logged_in(kiosk):
    from starlette.testclient import TestClient

    from daybreak.lab.ship.kiosk.run import application

    paged(kiosk.lab.registry / "toy-server" / "1")
    with TestClient(application(kiosk, "a-long-secret"), base_url="http://127.0.0.1") as client:
        assert client.get("/page/toy-server").status_code == 401
        client.cookies.set("access-token", "guess")
        assert client.get("/page/toy-server").status_code == 401
        assert client.post("/login", data={"username": "kiosk", "password": "a-long-secret"}).status_code == 200
        assert client.get("/page/toy-server").status_code == 200


def test_the_kiosk_s_versions_are_the_tested_ones_but_for_pillow():
    root = Path(__file__).parents[2]
    pins = [
        dict(line.split("==") for line in (root / name).read_text().splitlines() if "==" in line)
        for name in ("constraints.txt", "constraints-kiosk.txt")
    ]
    assert {name for name in pins[0].keys() & pins[1].keys() if pins[0][name] != pins[1][name]} == {"pillow"}
    assert int(pins[1]["pillow"].split(".")[0]) < 13
    assert {"gradio", "torch", "fastapi"} <= set(pins[1])


def test_a_number_without_a_default_is_empty_and_not_0():
    gradio = pytest.importorskip("gradio")
    from daybreak.lab.ship.kiosk.fields import Shown
    from daybreak.lab.ship.kiosk.screen import component

    assert component(Shown("bpm", "number", "beats", whole=True)).value in (None, "")
    assert not isinstance(component(Shown("bpm", "number", "beats", whole=True)), gradio.Number)
    assert component(Shown("bpm", "number", "beats", 90, whole=True)).value == 90


def test_a_page_s_policy_in_the_kiosk_is_its_own_and_a_frame():
    pytest.importorskip("starlette")
    from daybreak.lab.ship.kiosk.pages import POLICY
    from daybreak.lab.ship.page import HERE

    own = (HERE / "page.html.j2").read_text().partition('http-equiv="Content-Security-Policy" content="')[2]
    assert POLICY.startswith(own.partition('"')[0])
    assert POLICY.endswith("frame-ancestors 'self'")
