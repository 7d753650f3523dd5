"""Microsoft Teams, through the webhook of a Workflow: an Adaptive Card with the words and a button to the page.

Sources: "Create incoming webhooks with Workflows for Microsoft Teams" (the payload, 202 for taken) and the Adaptive
Card schema, version 1.4. apprise sends a card too, but one without a button, whose text Teams reads as Markdown, and it
does not wait when Teams says so.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

from daybreak.lab.morning.post.wire import ask
from daybreak.lab.morning.post.words import Message

MOST = 20_000
"""Bytes of a payload. Teams says "about 28 KB" and counts more than what is sent; a flow takes a larger one, and fails
after it has said 202, unheard."""
NATIVE = re.compile(r"https?://[^/]+(/powerautomate/automations/direct(/cu/\d+)?)?/workflows/[^/]+/triggers/")


def is_webhook(address: str) -> bool:
    """Whether this is the address that a Workflow shows."""
    return bool(NATIVE.match(address))


def webhook(service: Any) -> str:
    """The webhook behind apprise's `workflows://`, from what apprise has read in it."""
    port = f":{service.port}" if service.port else ""
    path = "/powerautomate/automations/direct" if service.power_automate else ""
    path += f"/cu/{service.routing_id}" if path and service.routing_id else ""
    about = {
        "api-version": service.api_version, "sp": "/triggers/manual/run", "sv": "1.0", "sig": service.signature,
    }  # fmt: skip
    return f"https://{service.host}{port}{path}/workflows/{service.workflow}/triggers/manual/paths/invoke?" + urlencode(
        about
    )


def send(address: str, told: Message) -> str:
    """Post the card. What was sent, in words. Raises `Refused`."""
    fitted = told.fitted(lambda one: len(payload(one)), MOST)
    ask("POST", address, data=payload(fitted), headers={"Content-Type": "application/json; charset=utf-8"})
    return "the words and a link" if not fitted.cut else "a part of the words, which says so, and a link"


def payload(told: Message) -> bytes:
    """The message as the trigger "When a Teams webhook request is received" takes it."""
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": told.title, "size": "Large", "weight": "Bolder", "wrap": True, "style": "heading"}
    ]
    body += [_text(paragraph) for paragraph in told.paragraphs]
    if told.decisions:
        body.append({"type": "TextBlock", "text": "Decide", "weight": "Bolder", "wrap": True, "separator": True})
        body += [_text(f": {what}", command) for command, what in told.decisions]
    if told.cut:
        body.append(_text(told.cut))
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "msteams": {"width": "Full"}, "body": body, "fallbackText": told.title,
    }  # fmt: skip
    if told.reachable:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the page", "url": told.link}]
    else:
        body.append(_text(f"The page: {told.link}"))
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return json.dumps({"type": "message", "attachments": [attachment]}).encode()


def _text(text: str, code: str = "") -> dict[str, Any]:
    """A paragraph in which nothing is Markdown: a TextBlock's text would be."""
    runs = [{"type": "TextRun", "text": code, "fontType": "Monospace"}] if code else []
    return {"type": "RichTextBlock", "inlines": [*runs, {"type": "TextRun", "text": text}]}
