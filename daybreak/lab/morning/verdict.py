"""The night in words, by rule: at most three sentences, each no vaguer and no bolder than its evidence.

First what happened to the goal, then what broke, then what else is worth a word. It reads the morning's data and
nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from daybreak.lab.compare import FEWEST_GROUPS
from daybreak.lab.morning.figures import count, duration, figure, listing, signed

ARROW = "\u2192"


def headline(data: Mapping[str, Any]) -> str:
    """ "4 runs \u00b7 7 h 12 m \u00b7 1 diverged"."""
    if not data["runs"]:
        return "no runs"
    words = Counter(row["state"] for row in data["runs"] if row["state"] != "finished")
    parts = [count(len(data["runs"]), "run"), f"{duration(data['cost_s'])} of work"]
    return " \u00b7 ".join([*parts, *(f"{n} {word}" for word, n in words.most_common())])


def sentences(data: Mapping[str, Any]) -> list[dict[str, str]]:
    """The verdict: text and tone ("better", "worse", "undecided") of each sentence."""
    if not data["runs"]:
        return [_empty(data)]
    found = [_goal(data, group) for group in data["groups"][:1]]
    failed = _failed(data)
    if len(data["groups"]) > 1 and not failed:
        found.append(_goal(data, data["groups"][1]))
    if failed:
        found.append(failed)
    return [*found, *_rest(data, len(data["groups"]) > (2 if not failed else 1))][:3]


def comparison(group: Mapping[str, Any], against: Mapping[str, Any]) -> str:
    """ "note NLL 1.742 \u2192 1.701 (\u22120.041 \u00b10.012 nats/token over 96 items; one seed)"."""
    goal, places = group["goal"], group["places"]
    over = f"over {count(against['items'], 'item')}"
    if against["groups"] < FEWEST_GROUPS:
        inside = f"{over} in {count(against['groups'], 'group')}, too few for an interval"
    else:
        unit = f" {goal['unit']}" if goal["unit"] else ""
        inside = f"{difference(against, places)}{unit} {over}"
    if against["step"] != against["other_step"]:
        steps = f" at step {against['step']:,} against {against['other_step']:,}"
    else:
        steps = "" if against["at_end"] else f" at step {against['step']:,}"
    values = f"{figure(against['other_value'], places)} {ARROW} {figure(against['value'], places)}"
    return f"{goal['name']} {values}{steps} ({inside}; one seed)"


def difference(against: Mapping[str, Any], places: int) -> str:
    """ "\u22120.041 \u00b10.012"; a lopsided interval is written out."""
    half = (against["high"] - against["low"]) / 2
    middle = (against["high"] + against["low"]) / 2
    if against["groups"] < FEWEST_GROUPS:
        return signed(against["difference"], places)
    if abs(middle - against["difference"]) > 0.2 * half > 0:
        ends = f"{signed(against['low'], places)} to {signed(against['high'], places)}"
        return f"{signed(against['difference'], places)} ({ends})"
    return f"{signed(against['difference'], places)} \u00b1{figure(half, places)}"


def _empty(data: Mapping[str, Any]) -> dict[str, str]:
    jobs = len(data["tonight"]["jobs"])
    queued = f"; {count(jobs, 'job')} waiting in the queue" if jobs else " and nothing is queued"
    return _sentence(f"Nothing ran between {data['from_text']} and {data['to_text']}{queued}.")


def _goal(data: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, str]:
    """What happened to the goal of one group, by its leader; the task first, where it has one."""
    found = _told(data, group)
    return {**found, "text": f"{group['task']}: {found['text']}"} if group["task"] else found


def _told(data: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, str]:
    goal, places, reference = group["goal"], group["places"], group["reference"]
    rows = [row for row in data["runs"] if row["id"] in group["runs"]]
    judged = [row for row in rows if row["against"]]
    named = "the best so far" if group["earlier"] else "the first run of the night"
    for found in group["seeds"]:
        if found["verdict"] != "undecided":
            return _sentence(
                f"{listing(found['runs'])} against {listing(found['base'])}: {found['words']}.", found["verdict"]
            )
    if not judged:
        scored = [row for row in rows if row["score"] is not None]
        if not scored:
            return _sentence(f"No run of {group['recipe']} reached an evaluation whose score counts.")
        first = scored[0]
        where = "nothing to compare it with yet" if reference is None or reference["id"] == first["id"] else (
            f"not on the items of {reference['title']}"
        )  # fmt: skip
        value = f"{figure(first['score'], places)} {goal['unit']}".rstrip()
        return _sentence(f"{first['title']} reached {goal['name']} {value} at step {first['score_step']:,}; {where}.")
    lead, other = judged[0], reference["title"]
    lead_against = lead["against"]
    text = comparison(group, lead_against)
    if lead_against["verdict"] == "better":
        return _sentence(f"{lead['title']} is better than {named}, {other}: {text}.", "better")
    unlucky = lead_against["high"] < 0 if goal["better"] == "lower" else lead_against["low"] > 0
    if lead_against["verdict"] == "undecided":
        once = f" once corrected for {lead_against['of']} comparisons" if unlucky else ""
        return _sentence(f"No difference shown{once} between {lead['title']} and {named}, {other}: {text}.")
    return _sentence(f"Nothing beat {named}, {other}; {lead['title']} came closest: {text}.", "worse")


def _failed(data: Mapping[str, Any]) -> dict[str, str] | None:
    """What broke, the first with its evidence."""
    rows = sorted((row for row in data["runs"] if row["failed"]), key=lambda row: row["number"])
    if not rows:
        return None
    if len(rows) == 1:
        return _sentence(f"{_why(rows[0])}.", "worse")
    words = Counter(_word(row) for row in rows)
    counts = listing([f"{n} {word}" for word, n in words.most_common()])
    total = count(len(data["runs"]), "run")
    if len(rows) <= 3:
        return _sentence(f"{len(rows)} of {total} failed: {'; '.join(_why(row) for row in rows)}.", "worse")
    return _sentence(f"{len(rows)} of {total} failed ({counts}); {_why(rows[0])}.", "worse")


def _why(row: Mapping[str, Any]) -> str:
    """ "#42 diverged at about step 1,271: the loss rose ...; the 3 items of the batch are named below"."""
    order = {"divergence": 0, "non-finite": 1}
    found = sorted((f for f in row["findings"] if f["kind"] in order), key=lambda f: order[f["kind"]])
    if not found:
        text: str = row["state_text"]
        return f"{row['title']} {text if text.startswith(('crashed', 'was')) else text.removeprefix('failed: ')}"
    text = found[0]["text"]
    items = found[0]["items"]
    named = f"; {count(len(items), 'item')} of that batch named below" if items else ""
    said = text if text.startswith("diverged") else f"diverged: {text}"
    return f"{row['title']} {said}{named}"


def _word(row: Mapping[str, Any]) -> str:
    return str(row["state"]) if row["state"] != "finished" else "diverged"


def _rest(data: Mapping[str, Any], more: bool) -> list[dict[str, str]]:
    """Other runs that were shown better or worse, what still runs, what was cut short; else that nothing else moved."""
    said = {group["runs"][0] for group in data["groups"][:1] if group["runs"]}
    rows = [row for row in data["runs"] if not row["failed"] and row["id"] not in said]
    parts = []
    for tone in ("better", "worse"):
        named = [row["title"] for row in rows if row["against"] and row["against"]["verdict"] == tone]
        if named:
            parts.append(f"{listing(named)} {'is' if len(named) == 1 else 'are'} {tone} too" if tone == "better" else (
                f"{listing(named)} {'is' if len(named) == 1 else 'are'} worse"
            ))  # fmt: skip
    level = [row["title"] for row in rows if row["against"] and row["against"]["verdict"] == "undecided"]
    if level:
        parts.append(f"no difference shown for {listing(level)}")
    live = [row["title"] for row in data["runs"] if row["state"] == "running"]
    if live:
        parts.append(f"{listing(live)} still {'trains' if len(live) == 1 else 'train'}")
    cut = [row["title"] for row in rows if row["state"] in ("deadline", "stopped")]
    if cut:
        parts.append(f"{listing(cut)} stopped in time and can go on")
    if more:
        parts.append("the other recipes are in the table")
    if not parts:
        return [_sentence("Nothing else moved.")] if len(data["runs"]) > 1 else []
    text = "; ".join(parts)
    return [_sentence(f"{text[0].upper()}{text[1:]}." if text[0].islower() and text.startswith("no ") else f"{text}.")]


def _sentence(text: str, tone: str = "undecided") -> dict[str, str]:
    return {"text": text, "tone": tone}
