"""The services that a morning is posted to, on this machine: each looks at what comes as the real one documents it.

A request that the real service would refuse is refused here, in the real shape. `trouble` is what happens to the next
requests instead: (status, headers, body), "drop", or "slow".
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import http.server
import json
import re
import socketserver
import threading
import time
import urllib.parse
import xml.etree.ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ELEMENTS = {"TextBlock", "RichTextBlock", "Image", "Container", "ColumnSet", "FactSet", "Table", "ActionSet"}
"""Of Adaptive Cards 1.4 and 1.5, those that a card of ours could have."""
ONENOTE = {
    *(
        "html",
        "head",
        "body",
        "title",
        "meta",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "ul",
        "ol",
        "li",
        "pre",
        "b",
        "i",
    ),
    *("u", "strong", "em", "del", "sup", "sub", "cite", "a", "img", "object", "br", "div", "span", "table", "tr", "td"),
}
"""What OneNote takes ("Input and output HTML in OneNote pages")."""


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def parts(self) -> dict[str, tuple[str, str, bytes]]:
        """Name -> file's name, type, content of a multipart/form-data body (RFC 7578)."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        whole = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        assert whole.get_content_type() == "multipart/form-data"
        found = {}
        for part in whole.iter_parts():
            assert part.get_content_disposition() == "form-data"
            name = str(part.get_param("name", header="content-disposition"))
            assert name not in found
            found[name] = (part.get_filename() or "", part.get_content_type(), part.get_payload(decode=True))
        return found


class Wrong(Exception):
    """What a service refuses: status and body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


@dataclass
class Fake:
    """All of them behind one port. `got` is what was taken, by service."""

    port: int = 0
    got: list[tuple[str, Any]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    trouble: list[Any] = field(default_factory=list)
    pending: int = 2
    """Times that the sign-in says "not yet"."""
    refresh: str = "refresh-1"
    transactions: set[str] = field(default_factory=set)
    uploads: dict[str, bytes] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def taken(self, kind: str) -> list[Any]:
        return [what for name, what in self.got if name == kind]

    def answer(self, r: Request) -> tuple[int, Any]:
        for pattern, act in ROUTES:
            if (found := re.fullmatch(pattern, f"{r.method} {r.path}")) is not None:
                return act(self, r, *found.groups())
        raise Wrong(404, {"error": {"code": "NotFound", "message": f"no {r.method} {r.path}"}})


def teams(fake: Fake, r: Request) -> tuple[int, Any]:
    """The trigger "When a Teams webhook request is received"."""
    if r.query.get("sig") != "secret-signature":
        raise Wrong(401, {"error": {"code": "AuthorizationFailed", "message": "The authentication credentials ..."}})
    assert r.headers["content-type"].startswith("application/json")
    if len(r.body) > 28 * 1024:
        raise Wrong(413, {"error": {"code": "RequestEntityTooLarge", "message": "The request is too large."}})
    message = r.json
    assert message["type"] == "message"
    (attachment,) = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert card["type"] == "AdaptiveCard"
    assert card["version"] in ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5")
    for element in card["body"]:
        assert element["type"] in ELEMENTS
        if element["type"] == "TextBlock":
            assert isinstance(element["text"], str)
        if element["type"] == "RichTextBlock":
            assert all(run["type"] == "TextRun" and isinstance(run["text"], str) for run in element["inlines"])
    for action in card.get("actions", ()):
        assert action["type"] == "Action.OpenUrl"
        assert action["url"].startswith("https://")
    fake.got.append(("teams", card))
    return 202, b""


def slack_hook(fake: Fake, r: Request) -> tuple[int, Any]:
    if r.path != "/services/T00/B00/secrethook":
        raise Wrong(403, b"invalid_token")
    message = r.json
    assert message.get("text") or message.get("attachments") or message.get("blocks")
    fake.got.append(("slack", message))
    return 200, b"ok"


def slack(fake: Fake, r: Request, method: str) -> tuple[int, Any]:
    """Web API methods. Slack refuses with 200 and ok: false."""
    if r.headers.get("authorization") != "Bearer xoxb-1-secret":
        return 200, {"ok": False, "error": "invalid_auth"}
    if method == "chat.postMessage":
        if r.json["channel"] != "#lab":
            return 200, {"ok": False, "error": "channel_not_found"}
        assert len(json.dumps(r.json)) < 60_000
        fake.got.append(("slack", r.json))
        return 200, {"ok": True, "channel": "C0LAB", "ts": "1.0"}
    if method == "files.getUploadURLExternal":
        fake.uploads["F1"] = b""
        assert r.query["filename"].endswith(".html")
        size = int(r.query["length"])
        return 200, {"ok": True, "file_id": "F1", "upload_url": f"{fake.base}/upload/v1/{size}"}
    assert method == "files.completeUploadExternal"
    assert [one["id"] for one in r.json["files"]] == ["F1"]
    assert r.json["channel_id"] == "C0LAB"
    fake.got.append(("slack file", fake.uploads["F1"]))
    return 200, {"ok": True, "files": [{"id": "F1", "title": "index.html"}]}


def slack_upload(fake: Fake, r: Request, size: str) -> tuple[int, Any]:
    (content,) = [data for _, _, data in r.parts().values()]
    assert len(content) == int(size)
    fake.uploads["F1"] = content
    return 200, f"OK - {size}".encode()


def discord(fake: Fake, r: Request) -> tuple[int, Any]:
    if r.path != "/api/webhooks/123456/discord-secret":
        raise Wrong(404, {"message": "Unknown Webhook", "code": 10015})
    files = {}
    if r.headers["content-type"].startswith("multipart/form-data"):
        parts = r.parts()
        message = json.loads(parts.pop("payload_json")[2])
        assert all(re.fullmatch(r"files\[\d\]", name) for name in parts)
        files = {name: data for name, _, data in parts.values()}
        if sum(map(len, files.values())) > 10_000_000:
            raise Wrong(413, {"message": "Request entity too large", "code": 40005})
    else:
        message = r.json
    if not (message.get("content") or message.get("embeds") or files):
        raise Wrong(400, {"message": "Cannot send an empty message", "code": 50006})
    if len(message.get("content", "")) > 2000:
        raise Wrong(400, {"message": "Invalid Form Body", "code": 50035})
    fake.got.append(("discord", (message, files)))
    return 204, b""


def matrix_known(r: Request) -> None:
    if r.headers.get("authorization") != "Bearer matrix-secret":
        raise Wrong(401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Unrecognised access token."})


def matrix_who(fake: Fake, r: Request) -> tuple[int, Any]:
    matrix_known(r)
    return 200, {"user_id": "@lab:example", "device_id": "D"}


def matrix_join(fake: Fake, r: Request, room: str) -> tuple[int, Any]:
    matrix_known(r)
    if urllib.parse.unquote(room) != "!room:example":
        raise Wrong(403, {"errcode": "M_FORBIDDEN", "error": "You are not invited to this room."})
    return 200, {"room_id": "!room:example"}


def matrix_upload(fake: Fake, r: Request) -> tuple[int, Any]:
    matrix_known(r)
    if len(r.body) > 6_000_000:
        raise Wrong(413, {"errcode": "M_TOO_LARGE", "error": "Cannot upload this content"})
    fake.uploads["mxc://example/page"] = r.body
    return 200, {"content_uri": "mxc://example/page"}


def matrix_send(fake: Fake, r: Request, room: str, transaction: str) -> tuple[int, Any]:
    matrix_known(r)
    assert r.method == "PUT"
    event = r.json
    if transaction in fake.transactions:  # a retransmission: the event of the first time, and nothing new
        return 200, {"event_id": f"${transaction}"}
    fake.transactions.add(transaction)
    assert isinstance(event["body"], str)
    if event["msgtype"] == "m.file":
        assert event["url"] in fake.uploads
        fake.got.append(("matrix file", fake.uploads[event["url"]]))
    else:
        assert event["msgtype"] == "m.text"
        if "formatted_body" in event:
            assert event["format"] == "org.matrix.custom.html"
        fake.got.append(("matrix", event))
    return 200, {"event_id": f"${transaction}"}


def device_code(fake: Fake, r: Request) -> tuple[int, Any]:
    form = dict(urllib.parse.parse_qsl(r.body.decode()))
    if form.get("client_id") != "the-client":
        raise Wrong(
            400, {"error": "unauthorized_client", "error_description": "AADSTS700016: not found\r\nTrace ID: 1"}
        )
    assert "offline_access" in form["scope"].split()
    return 200, {
        "user_code": "ABCD1234", "device_code": "device-secret", "verification_uri": "https://microsoft.com/devicelogin",
        "expires_in": 900, "interval": 5, "message": "To sign in, open https://microsoft.com/devicelogin, ABCD1234",
    }  # fmt: skip


def token(fake: Fake, r: Request) -> tuple[int, Any]:
    form = dict(urllib.parse.parse_qsl(r.body.decode()))
    assert form["client_id"] == "the-client"
    if form["grant_type"] == "refresh_token":
        if form["refresh_token"] != fake.refresh:
            raise Wrong(400, {"error": "invalid_grant", "error_description": "AADSTS70000: The grant is expired."})
        fake.refresh = "refresh-" + str(int(fake.refresh.rpartition("-")[2]) + 1)
    else:
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code"
        assert form["device_code"] == "device-secret"
        fake.pending -= 1
        if fake.pending >= 0:
            raise Wrong(400, {"error": "authorization_pending", "error_description": "AADSTS70016: pending"})
    tokens = {"access_token": "graph-secret", "refresh_token": fake.refresh}
    return 200, {"token_type": "Bearer", "expires_in": 3599, "scope": "Notes.ReadWrite", **tokens}


def graph_known(r: Request) -> None:
    if r.headers.get("authorization") != "Bearer graph-secret":
        raise Wrong(401, {"error": {"code": "InvalidAuthenticationToken", "message": "Access token is empty."}})


def sections(fake: Fake, r: Request, whose: str) -> tuple[int, Any]:
    graph_known(r)
    return 200, {"value": [{"id": "1-abc", "displayName": "Daily log"}, {"id": "1-def", "displayName": "Ideas"}]}


def onenote(fake: Fake, r: Request, whose: str, section: str) -> tuple[int, Any]:
    """Create page: a "Presentation" of XHTML, and every part that it names, once."""
    graph_known(r)
    if section != "1-abc":
        raise Wrong(404, {"error": {"code": "20102", "message": "The specified resource ID does not exist."}})
    if len(r.body) > 4 * 1024 * 1024:
        raise Wrong(413, {"error": {"code": "RequestEntityTooLarge", "message": "The request is too large."}})
    parts = r.parts()
    file, kind, html = parts.pop("Presentation")
    assert file == ""
    assert kind in ("text/html", "application/xhtml+xml")
    tree = xml.etree.ElementTree.fromstring(html)
    assert tree.tag == "html"
    assert {element.tag for element in tree.iter()} <= ONENOTE
    assert (tree.findtext("head/title") or "").strip()
    made = tree.find("head/meta[@name='created']")
    assert made is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", made.attrib["content"])
    named = [e.attrib["src"] for e in tree.iter("img")] + [e.attrib["data"] for e in tree.iter("object")]
    assert sorted(name.removeprefix("name:") for name in named) == sorted(parts)
    assert all(element.attrib["data-attachment"] and element.attrib["type"] for element in tree.iter("object"))
    assert all(len(data) < 25_000_000 for _, _, data in parts.values())
    fake.got.append(("onenote", (whose, tree, parts)))
    return 201, {"id": "1-page", "title": tree.findtext("head/title")}


ROUTES = [
    (r"POST /workflows/w0/triggers/manual/paths/invoke", teams),
    (r"POST /services/.*", slack_hook),
    (r"(?:GET|POST) /slack/([\w.]+)", slack),
    (r"POST /upload/v1/(\d+)", slack_upload),
    (r"POST /api/webhooks/.*", discord),
    (r"GET /_matrix/client/v3/account/whoami", matrix_who),
    (r"POST /_matrix/client/v3/join/(.*)", matrix_join),
    (r"POST /_matrix/media/v3/upload", matrix_upload),
    (r"PUT /_matrix/client/v3/rooms/([^/]+)/send/m.room.message/([^/]+)", matrix_send),
    (r"POST /the-tenant/oauth2/v2.0/devicecode", device_code),
    (r"POST /the-tenant/oauth2/v2.0/token", token),
    (r"GET /v1.0/(me|groups/[^/]+)/onenote/sections", sections),
    (r"POST /v1.0/(me|groups/[^/]+)/onenote/sections/([^/]+)/pages", onenote),
]


class Handler(http.server.BaseHTTPRequestHandler):
    fake: Fake

    def do_POST(self) -> None:
        where = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(urllib.parse.parse_qsl(where.query))
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(self.command, where.path, query, headers, body)
        self.fake.asked.append(request)
        extra: dict[str, str] = {}
        happens = self.fake.trouble.pop(0) if self.fake.trouble else None
        if happens == "drop":
            self.close_connection = True
            self.connection.close()
            return
        if happens == "slow":
            time.sleep(1.5)
        try:
            if isinstance(happens, tuple):
                status, extra, answer = happens
            else:
                status, answer = self.fake.answer(request)
        except Wrong as wrong:
            status, answer = wrong.status, wrong.body
        except AssertionError as error:
            status, answer = 400, {"error": {"code": "BadRequest", "message": f"not the format: {error}"}}
        said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(said)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

    do_GET = do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def services() -> Iterator[Fake]:
    """Start them."""
    fake = Fake()
    handler = type("Bound", (Handler,), {"fake": fake})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    fake.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


class Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a mail takes. `refuse` answers a command's word instead."""

    fake: Fake
    refuse: dict[str, str]

    def handle(self) -> None:
        def say(line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        say("220 mail.example ESMTP")
        while line := self.rfile.readline():
            word = line.strip().decode().upper().split(" ")[0]
            if word in self.refuse:
                if self.refuse[word] == "drop":
                    return
                if self.refuse[word] == "slow":
                    time.sleep(1.5)
                    return
                say(self.refuse[word])
            elif word == "EHLO":
                say("250-mail.example\r\n250-AUTH PLAIN\r\n250 SIZE 30000000")
            elif word == "AUTH":
                say("235 2.7.0 fine" if base64.b64decode(line.split()[2]) == b"\0lab\0hush" else "535 5.7.8 no")
            elif word == "DATA":
                say("354 go on")
                lines = []
                while (more := self.rfile.readline()) != b".\r\n":
                    assert more.endswith(b"\r\n")
                    assert len(more) <= 1000, "RFC 5321, 4.5.3.1.6"
                    lines.append(more.removeprefix(b".") if more.startswith(b"..") else more)
                self.fake.got.append(("mail", email.message_from_bytes(b"".join(lines), policy=email.policy.SMTP)))
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


@contextlib.contextmanager
def mail(fake: Fake, **refuse: str) -> Iterator[int]:
    """Start a mail server; its port."""
    handler = type("Bound", (Smtp,), {"fake": fake, "refuse": refuse})
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
