"""The screen: a tab a model, a form an action, its story, what visitors give back; drawn with Gradio from types alone.

It joins fields, shown, story and feedback, and owns none of them. Nothing on it is fetched from elsewhere.
"""

from __future__ import annotations

import datetime
import json
import secrets
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from daybreak.errors import UserError
from daybreak.lab.home import Lab
from daybreak.lab.model import Action
from daybreak.lab.ship.kiosk import feedback, pages, shown, story
from daybreak.lab.ship.kiosk.fields import Shown, plan, request_of
from daybreak.lab.ship.kiosk.words import LANGUAGES, WORDS, word
from daybreak.lab.ship.named import Loaded, Named

FIRST = 6
"""Fields of a form that show at once; what is needed and media always do."""


@dataclass(frozen=True)
class Settings:
    """How a kiosk behaves: kiosk.toml in the lab's folder, or these."""

    title: str = "daybreak"
    language: str = "en"
    idle: float = 90.0
    """Seconds without a touch after which everything is as it was, and the attract loop runs."""
    days: int = 365
    """For which feedback is kept."""
    licence: str = "Private"
    """Of what visitors give."""
    stories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Model -> {"action": ..., "request": {...}}."""


@dataclass
class Turn:
    """What a visitor asked last, and what was answered."""

    loaded: Loaded
    action: str
    request: Any
    answer: Any


class Kiosk:
    """The models on the screen. One action runs at a time, a model."""

    def __init__(self, lab: Lab | None, models: Sequence[Named], settings: Settings) -> None:
        self.lab, self.models, self.settings = lab, list(models), settings
        self.uploads = Path(tempfile.gettempdir()) / "gradio"
        self._locks = {named.slug: threading.Lock() for named in models}
        self._told: dict[tuple[str, str, str], list[story.Chapter]] = {}
        self.say: Callable[[str], None] = lambda line: None

    def answer(self, named: Named, action: Action, fields: Sequence[Shown], values: Sequence[Any]) -> Iterator[Turn]:
        """The answers to what was entered: one, or as many as a stream gives. Raises `UserError`."""
        with self._locks[named.slug]:
            if named.changed() and (said := named.follow()):
                self.say(said)
            loaded = named.current
            request = request_of(action, fields, values, loaded.limits, self.uploads)
            answer = getattr(loaded.model, action.method)(request)
            if not action.streams:
                yield Turn(loaded, action.name, request, answer)
                return
            events = []
            for event in answer:
                events.append(event)
                yield Turn(loaded, action.name, request, list(events))

    def story(self, named: Named) -> list[story.Chapter]:
        """Every version's answer to the model's fixed request. Asked once, then remembered. Raises `UserError`."""
        name = named.text.partition("@")[0]
        with self._locks[named.slug]:
            action, request = story.fixed(named.current.model, self.settings.stories.get(named.slug, {}))
            key = (name, repr(request), ",".join(v.title for v in self._versions(name)))
            if key not in self._told:
                self._told[key] = list(story.chapters(self.lab, name, action, request, named.resources))
            return self._told[key]

    def _versions(self, name: str) -> list[Any]:
        from daybreak.lab.registry import versions

        return versions(self.lab, name) if self.lab is not None else []

    def keep(self, named: Named, turn: Turn, given: Mapping[str, Any], consent: str, visitor: str) -> datetime.date:
        """Bring feedback home. Raises `UserError`."""
        corrected: dict[str, bytes] = {}
        if text := str(given.get("corrected") or "").strip():
            corrected["text"] = text.encode("utf-8", "replace")
        if path := given.get("file"):
            place = Path(str(path)).resolve()
            if not place.is_relative_to(self.uploads.resolve()):
                raise UserError("only what was uploaded here is read")
            corrected[f"file{place.suffix[:8]}"] = place.read_bytes()
        one = feedback.Feedback(
            system_of(turn.loaded), turn.loaded.title, turn.action, turn.request, turn.answer,
            str(given.get("thumb") or ""), str(given.get("note") or ""), corrected, visitor,
        )  # fmt: skip
        lab = self.lab or Lab.open()
        return feedback.keep(lab, one, consent, days=self.settings.days, licence=self.settings.licence)


def system_of(loaded: Loaded) -> str:
    """The system that a saved model belongs to."""
    return str(json.loads((loaded.path / "config.json").read_text())["system"])


class Screen:
    """The page of a kiosk. `blocks` is what Gradio serves."""

    def __init__(self, kiosk: Kiosk) -> None:
        self.kiosk = kiosk
        self.framed: list[tuple[Any, str, Callable[[str], Any]]] = []
        """What changes with the language: a component, its property, the words."""
        with gr.Blocks(title=kiosk.settings.title, analytics_enabled=False, fill_width=True) as self.blocks:
            self._draw()

    def _draw(self) -> None:
        settings = self.kiosk.settings
        visitor = gr.State(lambda: secrets.token_hex(4))
        with gr.Row(elem_id="head"):
            gr.Markdown(f"# {shown.word(settings.title)}", elem_id="title")
            choices = [(name, code) for code, name in LANGUAGES.items()]
            self.language = gr.Radio(
                choices, value=settings.language, show_label=False, container=False, elem_id="language", min_width=200
            )
            full = self._button("full", elem_id="full", min_width=120)
            full.click(None, js="() => { document.fullscreenElement ? document.exitFullscreen() :"
                       " document.documentElement.requestFullscreen(); }")  # fmt: skip
            again = self._button("again", elem_id="again", min_width=120)
            again.click(None, js="() => { location.reload(); }")
        with gr.Tabs(elem_id="models"):
            for named in self.kiosk.models:
                with gr.Tab(named.slug):
                    self._model(named, visitor)
        self.language.change(None, self.language, None, js="(code) => { document.documentElement.lang = code; }")
        updated = [component for component, _, _ in self.framed]
        self.language.change(
            lambda code: [
                gr.update(**{name: words(str(code))}) if name != "choices" else gr.update(choices=words(str(code)))
                for _, name, words in self.framed
            ],
            self.language, updated, queue=False, api_visibility="private",
        )  # fmt: skip

    def _model(self, named: Named, visitor: gr.State) -> None:
        turn = gr.State(None)
        actions = named.current.model.actions()
        with gr.Tabs():
            for action in actions.values():
                with gr.Tab(action.name):
                    self._action(named, action, turn)
            with gr.Tab(word(self.kiosk.settings.language, "story")) as tab:
                self._frame(tab, "label", "story")
                self._story(named)
            if pages.page(named) is not None:
                with gr.Tab(word(self.kiosk.settings.language, "page")) as tab:
                    self._frame(tab, "label", "page")
                    self._frame(gr.Markdown(word(self.kiosk.settings.language, "paged")), "value", "paged")
                    self._page(named)
        self._feedback(named, turn, visitor)

    def _page(self, named: Named) -> None:
        """The exported page in a frame, and as a file to take home. Gradio draws a tab when it is first chosen."""
        at, title = pages.address(named), shown.word(named.slug)
        gr.HTML(f'<iframe class="page" src="{at}" title="{title}" allow="fullscreen; autoplay"></iframe>')
        link = gr.HTML(_take(self.kiosk.settings.language, at, named.slug))
        self.framed.append((link, "value", lambda language: _take(language, at, named.slug)))

    def _action(self, named: Named, action: Action, turn: gr.State) -> None:
        fields = plan(action.request, named.current.limits)
        gr.Markdown(shown.word(action.line))
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                first = [one for one in fields if one.required or one.kind == "media"]
                first += [one for one in fields if one not in first][: max(0, FIRST - len(first))]
                drawn = {one.name: component(one) for one in first}
                rest = [one for one in fields if one.name not in drawn]
                if rest:
                    with gr.Accordion(word(self.kiosk.settings.language, "more"), open=False) as more:
                        self._frame(more, "label", "more")
                        drawn |= {one.name: component(one) for one in rest}
                run = self._button("run", variant="primary", size="lg")
            with gr.Column(scale=3, min_width=320):
                out = gr.HTML(elem_classes="answer", min_height=200)

        def answer(language: str, *values: Any) -> Iterator[tuple[str, Any]]:
            yield f'<p role="status">{word(language, "busy")}</p>', None
            try:
                for got in self.kiosk.answer(named, action, fields, values):
                    title = f'<p class="by">{word(language, "answered")}: {shown.word(got.loaded.title)}</p>'
                    yield shown.html(got.answer, action.name) + title, got
            except UserError as error:
                yield f'<p role="alert">{shown.word(str(error))}</p>', None
            except Exception as error:  # the model's fault: the operator reads where, the visitor goes on
                at = traceback.extract_tb(error.__traceback__)[-1]
                self.kiosk.say(f"{named.slug}.{action.name}: {type(error).__name__} at {at.filename}:{at.lineno}")
                yield f'<p role="alert">{word(language, "failed inside")}</p>', None

        run.click(
            answer, [self.language, *(drawn[one.name] for one in fields)], [out, turn], concurrency_limit=4,
            concurrency_id=named.slug, api_visibility="private", show_progress="minimal",
        )  # fmt: skip

    def _story(self, named: Named) -> None:
        self._frame(gr.Markdown(word(self.kiosk.settings.language, "told")), "value", "told")
        tell = self._button("tell")
        out = gr.HTML(elem_classes="answer")

        def told(language: str) -> Iterator[str]:
            yield f'<p role="status">{word(language, "busy")}</p>'
            try:
                found = self.kiosk.story(named)
            except UserError as error:
                yield f'<p role="alert">{shown.word(str(error))}</p>'
                return
            yield "".join(chapter(language, one) for one in found) or f"<p>{word(language, 'no story')}</p>"

        tell.click(told, self.language, out, concurrency_id=named.slug, api_visibility="private")

    def _feedback(self, named: Named, turn: gr.State, visitor: gr.State) -> None:
        settings = self.kiosk.settings
        code = settings.language
        with gr.Accordion(word(code, "feedback"), open=False) as box:
            self._frame(box, "label", "feedback")
            thumb = gr.Radio(_thumbs(code), show_label=False, container=False)
            self.framed.append((thumb, "choices", _thumbs))
            note = gr.Textbox(label=word(code, "note"), max_length=feedback.LONGEST, lines=2)
            text = gr.Textbox(label=word(code, "corrected"), max_length=feedback.LONGEST, lines=2)
            file = gr.File(label=word(code, "file"), type="filepath", height=120)
            agree = gr.Checkbox(label=word(code, "consent", days=settings.days), value=False)
            for made, key in ((note, "note"), (text, "corrected"), (file, "file")):
                self._frame(made, "label", key)
            self.framed.append((agree, "label", lambda language: word(language, "consent", days=settings.days)))
            send = self._button("send")
            said = gr.HTML()

        def give(language: str, last: Turn | None, who: str, agreed: bool, *values: Any) -> str:
            if last is None:
                return _status(word(language, "first"))
            if not agreed:
                return _status(word(language, "no consent"))
            given = dict(zip(("thumb", "note", "corrected", "file"), values, strict=True))
            try:
                consent = word(language, "consent", days=settings.days)
                end = self.kiosk.keep(named, last, given, consent, who)
            except UserError as error:
                return _status(str(error))
            return _status(word(language, "thanks", date=end.isoformat()))

        inputs = [self.language, turn, visitor, agree, thumb, note, text, file]
        send.click(give, inputs, said, api_visibility="private")

    def _button(self, key: str, **more: Any) -> gr.Button:
        made = gr.Button(word(self.kiosk.settings.language, key), **more)
        self._frame(made, "value", key)
        return made

    def _frame(self, made: Any, name: str, key: str) -> None:
        self.framed.append((made, name, lambda language: word(language, key)))


def component(one: Shown) -> Any:
    """A field of a request, drawn."""
    about = {"label": one.label, "info": one.about}
    if one.kind == "media" and one.media is not None:
        label = f"{one.label}: {one.about}"
        if one.media.mime.startswith("audio/") and one.media.mime != "audio/midi":
            return gr.Audio(type="filepath", label=label, sources=["upload", "microphone"], format="wav")
        if one.media.mime.startswith("image/") and not hasattr(one.media, "frames") and one.media.suffix != ".svg":
            return gr.Image(type="filepath", label=label, sources=["upload", "webcam", "clipboard"])
        return gr.File(type="filepath", label=label, file_types=[one.media.suffix], height=140)
    if one.kind == "choice":
        make = gr.Radio if len(one.choices) <= 4 and "" not in one.choices else gr.Dropdown
        return make(list(one.choices), value=one.default, **about)
    if one.kind == "choices":
        return gr.Dropdown(list(one.choices), value=list(one.default or ()), multiselect=True, **about)
    if one.kind == "switch":
        return gr.Checkbox(value=bool(one.default), **about)
    if one.kind == "slider":
        step = 1 if one.whole else (one.high - one.low) / 100
        return gr.Slider(one.low, one.high, value=one.default, step=step, **about)
    if one.kind == "number":
        if one.default is None:  # an empty gr.Number shows 0, and 0 would be what is asked for
            return gr.Textbox(value="", **about)
        return gr.Number(value=one.default, precision=0 if one.whole else None, **about)
    return gr.Textbox(value=one.default or "", **about)


def chapter(language: str, one: story.Chapter) -> str:
    """One version's part of a story, as HTML."""
    about = " · ".join(filter(None, [shown.word(one.made), shown.word(one.goal) if one.goal else ""]))
    body = one.html or f'<p role="alert">{word(language, "failed")}: {shown.word(one.failure)}</p>'
    took = f" · {one.seconds:.1f} s" if one.html else ""
    return f"<section><h3>{shown.word(one.title)}</h3><p>{about}{took}</p>{body}</section>"


def _thumbs(language: str) -> list[tuple[str, str]]:
    return [(word(language, "up"), "up"), (word(language, "down"), "down")]


def _take(language: str, at: str, slug: str) -> str:
    file = shown.word(f"{slug}.html")
    return f'<p class="take"><a href="{at}" download="{file}">↓ {word(language, "take")}</a></p>'


def _status(text: str) -> str:
    return f'<p role="status">{shown.word(text)}</p>'


def head(kiosk: Kiosk) -> str:
    """The script of the attract loop and the reset, with what it shows."""
    lines = [
        {"name": named.slug, "line": next(iter(named.current.model.actions().values())).line, "by": named.current.title}
        for named in kiosk.models
    ]
    about = {
        "idle": kiosk.settings.idle,
        "title": kiosk.settings.title,
        "models": lines,
        "touch": [WORDS[code]["touch"] for code in LANGUAGES],
    }
    script = (files("daybreak.lab.ship.kiosk") / "kiosk.js").read_text()
    data = json.dumps(about, ensure_ascii=False).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return f"<script>const KIOSK = {data};\n{script}</script>"
