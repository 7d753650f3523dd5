"""What the morning says: which night, which words, which hours, which decisions. Each from run folders made by hand."""

from __future__ import annotations

import json
import time
from datetime import date, datetime

import pytest
from nights import TEN, Night, usual

from daybreak.errors import UserError
from daybreak.lab.morning import data_of, parse_date, write_morning
from daybreak.lab.morning.collect import collect, night_of
from daybreak.lab.morning.story import Story
from daybreak.lab.run import Run

SUNDAY = date(2026, 11, 22)


def data(night, **options):
    return collect(night.lab, options.pop("day", None), options.pop("now", night.now), 3_000_000)


def row(found, number):
    return next(row for row in found["runs"] if row["number"] == number)


def verdict(found):
    return [sentence["text"] for sentence in found["verdict"]]


# Which night.


def test_a_night_is_named_by_the_local_date_on_which_it_ends(tmp_path):
    lab = Night(tmp_path).lab
    assert night_of(lab, None, TEN) == (SUNDAY, TEN - 86400, TEN)
    just_past_midnight = datetime(2026, 11, 22, 0, 1).timestamp()
    assert night_of(lab, None, just_past_midnight)[0] == SUNDAY


def test_a_morning_covers_what_ran_since_the_previous_cut(tmp_path):
    night = Night(tmp_path)
    friday = TEN - 2 * 86400
    night.run(1, hours_ago=50)
    night.run(2, hours_ago=40)  # Friday's evening: Saturday had no page
    night.run(3, hours_ago=8)
    write_morning(night.lab, now=friday)
    day, start, stop = night_of(night.lab, None, TEN)
    assert (day, start, stop) == (SUNDAY, friday, TEN)
    assert {told["number"] for told in data(night)["runs"]} == {2, 3}


def test_a_page_made_again_covers_the_same_night(tmp_path):
    night = usual(tmp_path)
    first = write_morning(night.lab, now=night.now).read_bytes()
    assert write_morning(night.lab, now=night.now).read_bytes() == first
    assert write_morning(night.lab, SUNDAY, now=night.now + 3 * 86400).read_bytes() == first


def test_dates_that_are_none_or_not_over_are_one_line(tmp_path):
    lab = Night(tmp_path).lab
    with pytest.raises(UserError, match="'tomorrow' is not a date; 2026-11-22 is"):
        parse_date("tomorrow")
    with pytest.raises(UserError, match="the night of 2026-11-23 is not over"):
        write_morning(lab, date(2026, 11, 23), now=TEN)


# Which words.


def test_a_better_run_is_called_better_with_its_interval_items_and_seeds(tmp_path):
    found = data(usual(tmp_path))
    first = verdict(found)[0]
    assert first.startswith("music:small#41 is better than the best so far, music:small#38: note NLL 1.")
    assert first.endswith("nats/token over 32 items; one seed).")
    assert " \u00b1" in first
    assert row(found, 41)["leading"]
    assert len(found["verdict"]) <= 3


def test_a_diverged_run_is_named_with_its_step_and_what_to_try(tmp_path):
    found = data(usual(tmp_path))
    assert verdict(found)[1].startswith("music:small#42 diverged at about step 1,2")
    assert found["headline"].endswith("1 diverged")
    argv = ["tonight", "add", "music:small", "--from", "42", "--lr", "0.0003"]
    assert [p["argv"] for p in found["proposals"]].count(argv) == 1


def test_no_difference_shown_is_a_verdict(tmp_path):
    night = Night(tmp_path)
    best = night.run(1, level=1.75, hours_ago=40)
    night.run(2, level=1.75, parent=best, change={"seed": 1})
    first = verdict(data(night))[0]
    assert first.startswith("No difference shown between music:small#2 and the best so far, music:small#1: note NLL")


def test_a_night_of_worse_runs_says_that_nothing_beat_the_best(tmp_path):
    night = Night(tmp_path)
    best = night.run(1, level=1.70, hours_ago=40)
    night.run(2, level=1.90, parent=best, change={"lr": 1e-5})
    found = data(night)
    assert verdict(found)[0].startswith("Nothing beat the best so far, music:small#1; music:small#2 came closest")
    assert not any(p["action"] == "register" for p in found["proposals"])


def test_the_best_of_many_equal_runs_is_not_called_better(tmp_path):
    """Twenty runs that differ by luck alone: the luckiest is corrected for being picked."""
    night = Night(tmp_path, sounds=0)
    best = night.run(1, level=1.75, hours_ago=40)
    for number in range(2, 22):
        night.run(number, level=1.75, parent=best, change={"seed": number})
    found = data(night)
    assert "is better" not in verdict(found)[0]
    assert max(r["against"]["of"] for r in found["runs"] if r["against"]) == 20


def test_three_seeds_on_each_side_speak_for_the_change(tmp_path):
    night = Night(tmp_path, sounds=0)
    base = [night.run(n, level=1.80, hours_ago=40, change={"seed": n}) for n in (1, 2, 3)]
    for n in (4, 5, 6):
        night.run(n, level=1.70, parent=base[0], change={"net.layers": 8, "seed": n})
    first = verdict(data(night))[0]
    assert "the change is better" in first
    assert "3 and 3 seeds" in first


def test_runs_on_other_items_are_never_the_best_so_far(tmp_path):
    night = Night(tmp_path, sounds=0)
    easy = Night(tmp_path, items=8, sounds=0)
    easy.run(1, level=0.5, hours_ago=60)
    night.run(2, level=1.75, hours_ago=40)
    night.run(3, level=1.70)
    assert data(night)["groups"][0]["reference"]["number"] == 2


def test_a_run_that_still_trains_is_compared_at_the_last_step_that_both_were_evaluated_at(tmp_path):
    night = Night(tmp_path)
    best = night.run(1, level=1.75, hours_ago=40)
    live = night.run(2, level=1.70, parent=best, change={"net.layers": 8}, end="crashed", at=1100, hours_ago=3)
    with live.own():
        found = data(night)
    told = row(found, 2)
    assert told["state"] == "running"
    assert (told["score_step"], told["against"]["step"], told["against"]["other_step"]) == (1000, 1000, 1000)
    assert "at step 1,000" in verdict(found)[0]
    assert any("still trains" in sentence for sentence in verdict(found))


# The mornings that are not usual.


def test_the_empty_morning(tmp_path):
    night = Night(tmp_path)
    page = write_morning(night.lab, now=night.now)
    found = data_of(page)
    assert found["kind"] == "empty"
    assert verdict(found) == ["Nothing ran between Sat 21 Nov, 10:00 and Sun 22 Nov, 10:00 and nothing is queued."]
    assert "Nothing to decide" in page.read_text()


def test_the_first_morning_holds_runs_against_the_first_of_the_night(tmp_path):
    night = Night(tmp_path)
    first = night.run(1, level=1.80, hours_ago=14)
    night.run(2, level=1.70, parent=first, change={"net.layers": 8}, hours_ago=12)
    found = data_of(write_morning(night.lab, now=night.now))
    assert found["kind"] == "first"
    assert verdict(found)[0].startswith("music:small#2 is better than the first run of the night, music:small#1")


def test_the_first_run_of_all_has_nothing_to_be_compared_with(tmp_path):
    night = Night(tmp_path)
    night.run(1)
    found = data_of(write_morning(night.lab, now=night.now))
    assert verdict(found)[0].endswith("nothing to compare it with yet.")


def test_the_morning_after_a_power_cut_says_what_crashed_and_what_was_lost(tmp_path):
    night = Night(tmp_path)
    best = night.run(1, hours_ago=40)
    for number in (2, 3):
        run = night.run(number, parent=best, change={"seed": number}, end="crashed", at=1500, hours_ago=9)
        (run.path / "checkpoints" / "step-00001200").mkdir()
    torn = night.lab.runs / "2-music-small" / "metrics.jsonl"
    torn.write_text(torn.read_text() + '{"step": 1501, "lo')
    found = data_of(write_morning(night.lab, now=night.now))
    assert [r["state"] for r in found["runs"]] == ["crashed", "crashed"]
    assert any("music:small#2 crashed after step 1500" in sentence for sentence in verdict(found))
    lost = found["lost"]["totals"]["crashed"]
    assert lost == pytest.approx(2 * 300 * 0.9 * 1.03, rel=0.2)  # the steps after each checkpoint
    assert [w["name"] for w in found["lost"]["workers"]] == ["worker 1", "worker 2"]


def test_a_folder_that_is_no_run_costs_no_morning(tmp_path):
    night = usual(tmp_path)
    (night.lab.runs / "99-broken").mkdir()
    (night.lab.runs / "98-broken").mkdir()
    (night.lab.runs / "98-broken" / "run.json").write_text("{}")
    found = data(night)
    assert len(found["runs"]) == 4
    assert [line.split(":")[0] for line in found["broken"]] == ["98-broken", "99-broken"]


def test_a_run_that_never_started_is_no_part_of_a_night(tmp_path):
    night = Night(tmp_path)
    night.run(1, end="new")
    assert data(night)["runs"] == []


# Hours, trend, notes.


def test_every_hour_of_a_worker_is_accounted_for(tmp_path):
    found = data(usual(tmp_path))["lost"]
    for worker in found["workers"]:
        assert sum(worker["parts"].values()) == pytest.approx(found["to"] - found["from"], rel=0.01)


def test_what_was_done_again_after_a_resume_is_lost_time(tmp_path):
    night = Night(tmp_path)
    run = night.run(1)
    events = run.path / "events.jsonl"
    last = run.windows()[-1]["time"]
    events.write_text(
        json.dumps({"time": TEN - 8 * 3600, "event": "started", "step": 0})
        + "\n"
        + json.dumps({"time": last + 60, "event": "resumed", "step": 1500})
        + "\n"
    )
    segments = Story(Run(run.path), TEN).segments
    assert segments[0].parts["crashed"] == pytest.approx(500 * 0.9 * 1.03, rel=0.2)
    assert sum(s.parts["crashed"] for s in segments[1:]) == 0


def test_the_trend_counts_failures_by_cause_and_keeps_the_best_of_each_week(tmp_path):
    night = usual(tmp_path)
    night.run(20, level=2.0, hours_ago=24 * 15)
    night.run(21, hours_ago=24 * 15, end="crashed", at=700)
    found = data(night)["trend"]
    assert found["weeks"] == ["2026-11-02", "2026-11-09", "2026-11-16"]
    assert found["failed"] == {"crashed": [1, 0, 0], "diverged": [0, 0, 1]}
    values = found["best"][0]["values"]
    assert values[1] is None
    assert values[2] < values[0]


def test_it_names_what_only_one_person_knows(tmp_path):
    night = Night(tmp_path)
    night.run(1, owner="minji")
    night.run(2, owner="minji", second="jun")
    night.run(3, owner="minji", notes=[("jun", "heard it")])
    night.run(4, owner="minji", notes=[("minji", "my own")])
    assert sorted(one["title"] for one in data(night)["alone"]) == ["music:small#1", "music:small#4"]


def test_tonight_says_what_fits_before_the_end_and_what_does_not(tmp_path):
    from daybreak.lab.night.queue import Job, Tonight

    night = usual(tmp_path)
    config = dict(Run.find(night.lab, "41").info.config)
    with Tonight(night.lab) as queue:
        ended = queue.begin_night(datetime(2026, 11, 22, 9, 30).timestamp(), 1)
        queue.end_night(ended)
        for steps in (2000, 50_000, 2000):
            queue.add([Job("music:compose", {**config, "steps": steps}, "small")])
        queue.add([Job("music:other", config, "small")])
    found = data(night)["tonight"]
    assert found["until_text"] == "09:30"
    assert [job["fits"] for job in found["jobs"]] == [True, False, False, None]
    assert found["jobs"][0]["starts"] == "18:00"


def test_the_sounds_of_the_best_come_first_and_what_finds_no_room_is_linked(tmp_path):
    night = usual(tmp_path)
    full, none = collect(night.lab, None, night.now, 10_000_000), collect(night.lab, None, night.now, 100_000)
    columns = [column["number"] for column in full["listen"][0]["columns"]]
    assert columns[0] == 38
    assert 41 in columns
    assert 42 not in columns
    assert len(full["listen"][0]["items"]) == 6
    names = {n for item in full["listen"][0]["items"] for cell in item["cells"] for n in cell["files"].values()}
    assert names <= set(full["media"])
    assert sum(map(len, none["media"].values())) <= 100_000
    assert none["listen"] == full["listen"]


def test_the_log_says_the_same_in_markdown(tmp_path):
    night = usual(tmp_path)
    page = write_morning(night.lab, now=night.now)
    log = (page.parent / "log.md").read_text()
    found = data_of(page)
    for proposal in found["proposals"]:
        assert f"`{proposal['command']}`" in log
    for told in found["runs"]:
        assert told["title"] in log
    assert log.startswith("# Sunday, 22 November 2026\n")


def test_sixty_runs_make_a_page_of_at_most_five_megabytes(tmp_path):
    night = Night(tmp_path, items=24)
    best = night.run(1, hours_ago=40)
    for number in range(2, 62):
        night.run(
            number, level=1.7 + number / 500, parent=best, change={"lr": number * 1e-5}, hours_ago=23 - number / 4
        )
    page = write_morning(night.lab, now=night.now)
    assert len(data_of(page)["runs"]) == 60
    assert page.stat().st_size <= 5_000_000
    points = [len(c[k]) for c in data_of(page)["curves"].values() for k in ("loss", "goal")]
    assert max(points) <= 400


def test_writing_a_morning_takes_no_lock_and_changes_no_run(tmp_path):
    night = usual(tmp_path)
    before = {p: p.read_bytes() for p in night.lab.runs.rglob("*") if p.is_file()}
    time.sleep(0.01)
    write_morning(night.lab, now=night.now)
    assert {p: p.read_bytes() for p in night.lab.runs.rglob("*") if p.is_file()} == before


def test_runs_on_different_tasks_never_stand_against_one_another(tmp_path):
    night = Night(tmp_path, sounds=0)
    tasks = {1: "Pong", 2: "CartPole", 3: "Pong", 4: "CartPole"}
    for number, task in tasks.items():
        run = night.run(number, level=1.0 + number / 10, hours_ago=40 if number < 3 else 8)
        (run.path / "judged.json").write_text(json.dumps({"task": task}))
    found = data(night)
    held = {group["task"]: (group["reference"]["number"], group["runs"]) for group in found["groups"]}
    assert {task: number for task, (number, _) in held.items()} == {"Pong": 1, "CartPole": 2}
    assert [row["task"] for row in found["trend"]["best"]] == ["CartPole", "Pong"]
    assert any(text.startswith("Pong: ") for text in verdict(found))
    page = write_morning(night.lab, now=night.now).read_text()
    assert "music:compose, Pong: note NLL" in page


def test_a_run_that_was_refused_before_it_began_costs_no_morning(tmp_path):
    night = usual(tmp_path)
    run = night.run(90, end="new")
    (run.path / "events.jsonl").write_text(
        json.dumps({"time": night.now - 3600, "event": "refused", "reason": "start: there is nothing there"}) + "\n"
    )
    told = row(data(night), 90)
    assert (told["state"], told["cost_s"]) == ("refused", 0)


# What broke and what was fixed.


def judged(run, bound=1.75):
    (run.path / "judged.json").write_text(json.dumps({"right": [["note NLL", "lower", bound]]}))


def test_a_morning_names_the_items_that_crossed_the_recipes_own_bound(tmp_path):
    night = Night(tmp_path)
    judged(night.run(1, hours_ago=40, level=1.9))
    judged(night.run(2, hours_ago=8, level=1.6))
    night.run(3, hours_ago=6, level=1.6)  # its recipe says nothing
    found = data(night)
    (told,) = row(found, 2)["crossed"]
    assert row(found, 3)["crossed"] == []
    now, before = ({one.item: one.values["note NLL"] for one in Run(night.lab.runs / f"{n}-music-small").scores(2000)}
                   for n in (2, 1))  # fmt: skip
    fixed = {item for item in now if now[item] <= 1.75 < before[item]}
    assert fixed
    assert {one["item"] for one in told["items"]["fixed"]} == fixed
    assert (told["name"], told["of"], told["broken"], told["fixed"]) == ("note NLL", 32, 0, len(fixed))
    cells = {item["item"]: item["cells"][-1] for item in found["listen"][0]["items"]}
    assert {item for item, cell in cells.items() if cell["fixed"] == ["note NLL"]} == fixed & set(cells)
    page = write_morning(night.lab, now=night.now).read_text()
    assert f"{len(fixed)} newly fixed" in page
    assert (
        f"note NLL: 0 newly broken, {len(fixed)} newly fixed of 32 items"
        in (night.lab.daily / "2026-11-22" / "log.md").read_text()
    )
