"""Posting: each service gets what it documents, a refusal is one line without an address, nothing is cut silently."""

from __future__ import annotations

import html.parser
import io
import json
import os
import stat
import types
from itertools import pairwise

import pytest
from nights import usual
from services import mail, services

from daybreak.errors import UserError
from daybreak.lab.morning import data_of, write_morning
from daybreak.lab.morning import post as posting

pytest.importorskip("apprise")
from daybreak.lab.morning.post import onenote, signin, teams, wire, words

LINK = "https://lab.example/daily"
WHERE = f"{LINK}/2026-11-22/index.html"
EVIL = "[go](https://evil.example) *b* @everyone <!channel> <img src=x>"
SECRETS = (
    "secret-signature", "xoxb-1-secret", "secrethook", "discord-secret", "matrix-secret", "graph-secret", "refresh-",
    "device-secret", "hush", "the-client", "127.0.0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    night = usual(tmp_path_factory.mktemp("lab"))
    return write_morning(night.lab, now=night.now)


@pytest.fixture
def data(page):
    return data_of(page)


@pytest.fixture
def slept(monkeypatch):
    """The seconds that were waited, without waiting."""
    held, clock = [], [0.0]

    def sleep(seconds):
        held.append(seconds)
        clock[0] += seconds

    import time

    monkeypatch.setattr(wire, "time", types.SimpleNamespace(sleep=sleep, time=time.time))
    monkeypatch.setattr(signin, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
    return held


@pytest.fixture
def fake(monkeypatch, tmp_path, slept):
    """The services, and names for them."""
    import apprise
    from apprise.plugins.discord import NotifyDiscord
    from apprise.plugins.matrix import NotifyMatrix
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in list(os.environ):
        if name.startswith("DAYBREAK_POST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAYBREAK_LINK", LINK)
    with services() as fake:
        monkeypatch.setattr(NotifySlack, "api_url", f"{fake.base}/slack/{{}}")
        monkeypatch.setattr(NotifySlack, "webhook_url", f"{fake.base}/services")
        monkeypatch.setattr(NotifyDiscord, "notify_url", f"{fake.base}/api/webhooks")
        for kind in (NotifySlack, apprise.NotifyBase):
            monkeypatch.setattr(kind, "request_rate_per_sec", 0)
        monkeypatch.setattr(NotifyMatrix, "request_rate_per_sec", 0)
        at = f"127.0.0.1:{fake.port}"
        about = {
            "teams": f"http://{at}/workflows/w0/triggers/manual/paths/invoke?api-version=1&sig=secret-signature",
            "slack": "slack://xoxb-1-secret/lab",
            "hook": "slack://T00/B00/secrethook",
            "discord": "discord://123456/discord-secret",
            "matrix": f"matrix://matrix-secret@{at}/!room:example",
            "onenote": f"onenote://the-tenant/the-client/daily%20log?login={fake.base}&graph={fake.base}/v1.0",
        }
        for name, address in about.items():
            monkeypatch.setenv(f"DAYBREAK_POST_{name.upper()}", address)
        yield fake


def refused(page, data, name):
    """The one line of a failed post."""
    with pytest.raises(UserError) as caught:
        posting.post(page, data, name)
    said = str(caught.value)
    assert "\n" not in said
    assert "://" not in said
    assert not [secret for secret in SECRETS if secret in said]
    assert str(page) in said
    return said


def many(data, proposals=300):
    """The same morning with much more to decide."""
    one = next(p for p in data["proposals"] if p["state"] == "open")
    data["proposals"] = [{**one, "command": f"daybreak decide {n:04x}"} for n in range(proposals)]
    return data


def test_teams_gets_an_adaptive_card_with_a_button_to_the_page(page, data, fake):
    assert posting.post(page, data, "teams") == ["teams: Teams took the words and a link"]
    (card,) = fake.taken("teams")
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open the page", "url": WHERE}]
    text = json.dumps(card["body"])
    for part in (data["day"], "music:small#41 is better", "daybreak decide"):
        assert part in text


def test_apprise_s_own_form_of_a_workflow_is_the_same_webhook():
    import apprise

    at = "https://prod.example:443/powerautomate/automations/direct/cu/19/workflows/abc123/triggers/manual/paths/invoke"
    native = f"{at}?api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=a_b-c"
    assert teams.is_webhook(native)
    assert teams.webhook(apprise.Apprise.instantiate(native)) == native


def test_what_teams_reads_as_markdown_is_no_data_of_ours(page, data, fake):
    data["verdict"][0]["text"] = EVIL
    posting.post(page, data, "teams")
    blocks = [block for block in fake.taken("teams")[0]["body"] if block["type"] == "TextBlock"]
    assert EVIL not in json.dumps(blocks)


def test_a_long_morning_is_cut_with_a_sentence_that_counts_and_the_link(page, data, fake):
    assert posting.post(page, many(data), "teams") == [
        "teams: Teams took a part of the words, which says so, and a link"
    ]
    (card,) = fake.taken("teams")
    shown = json.dumps(card).count("daybreak decide")
    assert 0 < shown < 300
    assert f"{300 - shown} of 300 things to decide. The page has all of it." in json.dumps(card)
    assert len(json.dumps(card)) <= teams.MOST
    assert posting.post(page, data, "discord")[0].startswith(
        "discord: Discord took a part of the words, which says so,"
    )
    message = fake.taken("discord")[0][0]["content"]
    assert 1500 < len(message) <= 2000
    assert message.endswith(WHERE)


@pytest.mark.parametrize("most", [0, 60, 150, 300, 500, 1000, 5000])
def test_what_is_left_of_a_message_and_what_is_counted_are_all_of_it(data, most):
    told = words.message(many(data, 20), WHERE)
    fitted = told.fitted(lambda one: len(one.text()), most)
    counts = [int(word) for word, of in pairwise(fitted.cut.split()) if of == "of" and word.isdigit()]
    assert sum(counts) + len(fitted.decisions) + len(fitted.paragraphs) == 20 + len(told.paragraphs)
    assert len(fitted.text()) <= max(most, 260)
    assert fitted.text().endswith(WHERE)


def test_slack_gets_the_words_and_then_the_page_in_the_same_channel(page, data, fake):
    data["verdict"][0]["text"] = EVIL
    assert posting.post(page, data, "slack") == ["slack: Slack took the words and the page"]
    (message,) = fake.taken("slack")
    assert "<!channel>" not in json.dumps(message)
    assert fake.taken("slack file") == [page.read_bytes()]


def test_a_webhook_of_slack_takes_no_file_and_the_line_says_so(page, data, fake):
    assert posting.post(page, data, "hook") == ["hook: Slack took the words and a link"]
    assert WHERE in json.dumps(fake.taken("slack"))


def test_discord_gets_words_that_call_nobody_and_the_page(page, data, fake):
    data["verdict"][0]["text"] = EVIL
    assert posting.post(page, data, "discord") == ["discord: Discord took the words and the page"]
    (words_, _), (_, files) = fake.taken("discord")
    assert "@everyone" not in words_["content"]
    assert "[go](" not in words_["content"]
    assert files == {"index.html": page.read_bytes()}


def test_matrix_gets_formatted_words_and_the_page_as_two_events(page, data, fake):
    assert posting.post(page, data, "matrix") == ["matrix: Matrix took the words and the page"]
    assert fake.taken("matrix file") == [page.read_bytes()]
    event = fake.taken("matrix")[0]
    assert "music:small#41 is better" in event["body"]
    assert f'<a href="{WHERE}">' in event["formatted_body"]
    assert "<table" in event["formatted_body"]


def test_a_mail_has_words_for_every_program_and_the_page_attached(page, data, fake, monkeypatch):
    data["verdict"][0]["text"] = EVIL
    with mail(fake) as port:
        monkeypatch.setenv(
            "DAYBREAK_POST_MAIL", f"mailto://lab:hush@127.0.0.1:{port}?from=lab@a.example&to=team@a.example"
        )
        assert posting.post(page, data, "mail") == ["mail: E-Mail took the words and the page"]
    (message,) = fake.taken("mail")
    assert message["subject"] == f"daybreak, {data['day']}"
    assert (message["to"], message["date"], message["message-id"]) != (None, None, None)
    assert message.get_content_type() == "multipart/mixed"
    assert not message.defects
    plain, rich = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    (file,) = message.iter_attachments()
    assert (file.get_filename(), file.get_content_type()) == ("index.html", "text/html")
    assert file.get_payload(decode=True) == page.read_bytes()
    for text in (plain, rich):
        assert "daybreak decide" in text
        assert WHERE in text
    assert "<img" not in rich
    tags = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)
    parser.feed(rich)
    assert not {"script", "style", "svg", "link"} & set(tags)


@pytest.mark.parametrize(
    ("word", "said"),
    [("MAIL", "550 5.1.8 sender refused"), ("DATA", "552 5.3.4 too big"), ("RCPT", "drop"), ("EHLO", "slow")],
)
def test_a_mail_server_that_refuses_drops_or_sleeps_is_one_line(page, data, fake, monkeypatch, word, said):
    monkeypatch.setattr("daybreak.lab.morning.post.others.SMTP", 0.3)
    with mail(fake, **{word: said}) as port:
        monkeypatch.setenv("DAYBREAK_POST_MAIL", f"mailto://127.0.0.1:{port}?from=lab@a.example&to=team@a.example")
        line = refused(page, data, "mail")
    assert "E-Mail did not take it: " in line
    if said[0].isdigit():
        assert said[4:] in line or "refused" in line


def signed(fake, page, data, tell=None):
    """Sign in and post."""
    told = []
    lines = posting.post(page, data, "onenote", told.append if tell is None else tell)
    return lines, told


def test_onenote_gets_xhtml_with_charts_and_the_page_as_a_file(page, data, fake):
    data["verdict"][0]["text"] = EVIL
    lines, _ = signed(fake, page, data)
    assert lines == ["onenote: OneNote took a page of words, charts and the whole page as a file"]
    ((whose, tree, parts),) = fake.taken("onenote")
    assert whose == "me"
    assert tree.findtext("head/title") == f"daybreak, {data['day']}"
    assert tree.find("body//img").attrib["src"] == "name:chart1"
    text = " ".join(tree.itertext())
    assert EVIL in text
    assert "music:small#43" in text
    assert parts["page"][2] == page.read_bytes()
    from PIL import Image

    image = Image.open(io.BytesIO(parts["chart1"][2]))
    assert (image.format, image.size) == ("PNG", (1000, 420))
    colours = image.convert("RGB").getcolors(100_000)
    assert {(0x17, 0x66, 0x3A), (0xA1, 0x26, 0x1C), (0x6B, 0x6B, 0x6B)} & {colour for _, colour in colours}


def test_the_sign_in_is_once_and_its_token_is_for_its_owner_alone(page, data, fake, slept, tmp_path):
    with pytest.raises(UserError, match=r"nobody has signed in on this machine.*once at a terminal"):
        posting.post(page, data, "onenote")
    _, told = signed(fake, page, data)
    assert told == ["To sign in, open https://microsoft.com/devicelogin, ABCD1234"]
    assert slept == [5, 5, 5]  # not yet, not yet, there
    (file,) = (tmp_path / "config" / "daybreak").glob("onenote-*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"refresh_token": "refresh-1"}
    posting.post(page, data, "onenote")  # nobody looks, and nobody is needed
    assert json.loads(file.read_text()) == {"refresh_token": "refresh-2"}
    assert len(fake.taken("onenote")) == 2
    fake.refresh = "refresh-9"  # somebody took the permission back
    with pytest.raises(UserError, match="nobody has signed in"):
        posting.post(page, data, "onenote")
    file.chmod(0o640)
    with pytest.raises(UserError, match=r"others can read it \(mode 0640\)"):
        posting.post(page, data, "onenote")


def test_a_sign_in_that_is_declined_or_forgotten_is_one_line(page, data, fake):
    fake.trouble = [None, (400, {}, {"error": "authorization_declined", "error_description": "AADSTS70000: no"})]
    with pytest.raises(UserError, match="OneNote did not take it: the sign-in was refused: AADSTS70000: no"):
        signed(fake, page, data)
    fake.pending = 10_000
    with pytest.raises(UserError, match="nobody entered the code in time"):
        signed(fake, page, data)


def test_a_slower_sign_in_is_asked_more_slowly(page, data, fake, slept):
    fake.trouble = [None, (400, {}, {"error": "slow_down"})]
    fake.pending = 1
    signed(fake, page, data)
    assert slept == [5, 10, 10]


def test_a_page_larger_than_onenote_takes_at_once_stays_out_and_both_sides_say_so(page, data, fake, tmp_path):
    large = tmp_path / "index.html"
    large.write_bytes(page.read_bytes() + b" " * 4_000_000)
    lines, _ = signed(fake, large, data)
    assert "larger than OneNote takes at once" in lines[0]
    ((_, tree, parts),) = fake.taken("onenote")
    assert "page" not in parts
    assert "the link leads to it" in " ".join(tree.itertext())


def test_a_section_that_is_not_there_names_the_nearest(page, data, fake, monkeypatch):
    address = os.environ["DAYBREAK_POST_ONENOTE"]
    monkeypatch.setenv("DAYBREAK_POST_ONENOTE", address.replace("daily%20log", "Daly%20log"))
    with pytest.raises(UserError, match="no section 'Daly log'; did you mean Daily log"):
        signed(fake, page, data)
    monkeypatch.setenv("DAYBREAK_POST_ONENOTE", address.replace("daily%20log", "1-abc") + "&group=g1")
    signed(fake, page, data)
    assert fake.taken("onenote")[0][0] == "groups/g1"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("onenote://tenant/client", "an address of OneNote is onenote://TENANT/CLIENT/SECTION"),
        ("onenote://t/c/s?group=1&site=2", "an address of OneNote is"),
        ("onenote://t/c/s?grup=1", "no 'grup'; did you mean group"),
        ("nonsense://hush", r"an address of 'team' is none that apprise knows \(nonsense://...\)"),
    ],
)
def test_a_wrong_address_is_told_before_anything_is_sent(page, data, fake, monkeypatch, address, said):
    monkeypatch.setenv("DAYBREAK_POST_TEAM", f"{os.environ['DAYBREAK_POST_TEAMS']} {address}")
    with pytest.raises(UserError, match=said) as caught:
        posting.post(page, data, "team")
    assert "hush" not in str(caught.value)
    assert fake.asked == []


NAMES = {"teams": "Teams", "hook": "Slack", "discord": "Discord", "matrix": "Matrix", "slack": "Slack"}
ERRORS = [
    (401, {"error": {"code": "Unauthorized", "message": "no"}}, "HTTP 401, it does not know the token"),
    (403, {"error": {"code": "Forbidden", "message": "no"}}, "HTTP 403, it does not allow this"),
    (404, {"message": "Unknown Webhook", "code": 10015}, "HTTP 404, there is nothing at this address any more"),
    (413, {"errcode": "M_TOO_LARGE", "error": "too large"}, "HTTP 413, the message is too large for it"),
    (500, b"<html>oh no https://secret.example/hush</html>", "HTTP 500, it is out of order"),
    (502, b"", "HTTP 502, it is out of order"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("status", "body", "said"), ERRORS, ids=[str(status) for status, _, _ in ERRORS])
def test_a_refusal_says_why_in_one_line(page, data, fake, name, status, body, said):
    fake.trouble = [(status, {}, body)] * 8
    assert f"{NAMES[name]} did not take it: {said}" in refused(page, data, name)
    assert fake.got == []


@pytest.mark.parametrize("name", NAMES)
def test_who_says_later_is_asked_again_when_it_says_and_nothing_comes_twice(page, data, fake, slept, name):
    posting.post(page, data, name)
    once, first = [kind for kind, _ in fake.got], len(fake.asked)
    later = (429, {"Retry-After": "7"}, {"error": "ratelimited"})
    fake.trouble = [None] * 0 + [later, later]
    posting.post(page, data, name)
    assert slept == [7, 7]
    assert [kind for kind, _ in fake.got] == 2 * once
    assert len(fake.asked) == 2 * first + 2


@pytest.mark.parametrize("name", NAMES)
def test_who_says_much_later_is_not_waited_for(page, data, fake, slept, name):
    fake.trouble = [(429, {"Retry-After": "3600"}, {"retry_after_ms": 3_600_000})] * 8
    assert "HTTP 429, it is asked too often; it asks to come back in 3600 s" in refused(page, data, name)
    assert slept == []
    fake.trouble = [(429, {"Retry-After": "1"}, b"")] * 40
    assert "HTTP 429, it is asked too often" in refused(page, data, name)
    assert sum(slept) <= 4 * wire.LONGEST


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("what", "said"), [("drop", "the connection broke off"), ("slow", "it did not answer within 0.2 s")]
)
def test_a_dropped_or_a_slow_connection_is_not_tried_again_blindly(page, data, fake, monkeypatch, name, what, said):
    for room in (wire, posting.others):
        monkeypatch.setattr(room, "LIMIT", (0.2, 0.2))
    fake.trouble = [what] * 8
    line = refused(page, data, name)
    assert f"did not take it: {said}" in line
    assert "whether it has arrived is not known" in line


def test_one_that_fails_keeps_no_other_from_being_sent_and_both_are_told(page, data, fake, monkeypatch):
    both = f"{os.environ['DAYBREAK_POST_TEAMS']}wrong {os.environ['DAYBREAK_POST_HOOK']}"
    monkeypatch.setenv("DAYBREAK_POST_TEAM", both)
    line = refused(page, data, "team")
    assert "Teams did not take it: HTTP 401" in line
    assert "Slack took the words and a link" in line
    assert len(fake.taken("slack")) == 1


@pytest.mark.parametrize(("name", "fine"), [("slack", 1), ("discord", 1), ("matrix", 3)])
def test_words_that_arrived_without_the_page_are_told_as_that(page, data, fake, name, fine):
    fake.trouble = [*[None] * fine, *[(413, {}, {"error": "file_too_large"})] * 8]
    line = refused(page, data, name)
    assert f"{NAMES[name]} took the words and a link; it did not take the page: HTTP 413" in line


def test_a_refusal_of_slack_with_200_is_one(page, data, fake, monkeypatch):
    monkeypatch.setenv("DAYBREAK_POST_SLACK", "slack://xoxb-1-secret/elsewhere")
    assert "Slack did not take it: channel_not_found" in refused(page, data, "slack")


def test_who_has_no_address_is_told_what_one_looks_like(page, data, fake, monkeypatch):
    monkeypatch.delenv("DAYBREAK_POST_TEAMS")
    with pytest.raises(UserError, match="set DAYBREAK_POST_TEAMS to the address of a Workflow's webhook, https://"):
        posting.post(page, data, "teams")


def test_apprise_is_left_as_it_was(page, data, fake):
    import requests

    held = requests.sessions.HTTPAdapter
    posting.post(page, data, "hook")
    assert requests.sessions.HTTPAdapter is held is requests.adapters.HTTPAdapter


def test_a_scope_is_no_wider_than_the_notebook():
    assert onenote.notebook("onenote://t/c/s").scope == "Notes.ReadWrite offline_access"
    assert onenote.notebook("onenote://t/c/s?site=x").scope == "Notes.ReadWrite.All offline_access"


def test_any_other_service_is_sent_the_page_or_a_link_by_apprise(page, data, fake, monkeypatch):
    taken = []
    monkeypatch.setattr(
        "services.ROUTES", [(r"POST /(hook|hooks/.*)", lambda _, r, __: (taken.append(r.json), (200, b""))[1])]
    )
    monkeypatch.setenv("DAYBREAK_POST_TEAM", f"json://someone:hush@127.0.0.1:{fake.port}/hook")
    assert posting.post(page, data, "team") == ["team: JSON took the words and the page"]
    assert [a["filename"] for a in taken[0]["attachments"]] == ["index.html"]
    monkeypatch.setenv("DAYBREAK_POST_CHAT", f"mmost://127.0.0.1:{fake.port}/abcdefghijklmnop")
    assert posting.post(page, data, "chat") == ["chat: Mattermost took the words and a link"]
    assert WHERE in taken[1]["text"]
    fake.trouble = [(500, {}, b"")]
    assert "JSON did not take it: HTTP 500" in refused(page, data, "team")


def test_a_file_of_addresses_that_others_can_read_is_refused(fake, monkeypatch, tmp_path):
    path = tmp_path / "config" / "daybreak" / "post.toml"
    path.parent.mkdir(parents=True)
    path.write_text('team = "json://127.0.0.1:1/x"\nlink = "https://lab.example"\n')
    path.chmod(0o644)
    monkeypatch.delenv("DAYBREAK_LINK")
    with pytest.raises(UserError, match=r"others can read it \(mode 0644\); chmod 600"):
        posting.addresses("team")
    path.chmod(0o600)
    assert posting.addresses("team") == (["json://127.0.0.1:1/x"], "https://lab.example")
    with pytest.raises(UserError, match="nobody is known as 'taem'; did you mean team"):
        posting.addresses("taem")
