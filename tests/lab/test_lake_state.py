"""Whatever is added, relabelled and removed in whatever order: the lake holds what it should."""

import shutil
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from daybreak.lab.lake import Draft, Lake, difference, verify

contents = st.integers(0, 9)
groups = st.integers(0, 3)
labels = st.integers(0, 2)
drafts = st.lists(st.tuples(contents, groups, labels, st.sampled_from([None, "train", "test"])), max_size=8)


class Lakes(RuleBasedStateMachine):
    """A dictionary says what the lake should hold: content -> (group, label)."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.lake = Lake.open(self.folder)
        self.held, self.splits, self.removed, self.taken = {}, {}, set(), []

    def teardown(self):
        self.lake.close()
        shutil.rmtree(self.folder)

    @rule(batch=drafts)
    def add(self, batch):
        made = [Draft(str(c), f"g{g}", {"data": b"%d" % c, "x": b"shared"}, {"l": n}, s) for c, g, n, s in batch]
        added = changed = duplicates = broken = 0
        for content, group, label, split in batch:
            fixed = self.splits.get(group)
            if content in self.removed or (fixed and split and split != fixed):
                broken += 1
            elif content not in self.held:
                added += 1
                self.held[content] = (group, label)
                # Which split an unnamed group draws is the lake's to say; it is read back below.
                self.splits.setdefault(group, split)
            elif self.held[content] == (group, label) or self.held[content][0] != group:
                duplicates += 1
            else:
                changed += 1
                self.held[content] = (group, label)
            self._learn(group)
        done = self.lake.add("toy", made, licence="CC0-1.0")
        assert (done.added, done.changed, done.duplicates, len(done.broken)) == (added, changed, duplicates, broken)

    def _learn(self, group):
        from daybreak.lab.lake import split_of

        if group in self.splits and self.splits[group] is None:
            self.splits[group] = split_of("toy", f"g{group}")

    @rule(pick=st.integers(0, 99))
    def remove(self, pick):
        items = list(self.lake.items())
        if items:
            item = items[pick % len(items)]
            self.lake.remove(item.id, who="test", why="")
            del self.held[int(item.name)]
            self.removed.add(int(item.name))

    @rule()
    def reopen(self):
        self.lake.close()
        self.lake = Lake.open(self.folder)

    @rule()
    def freeze(self):
        if self.held:
            snapshot = self.lake.snapshot("toy")
            ids = {i.id: int(i.name) for split in ("train", "validation", "test") for i in snapshot.split(split)}
            assert set(ids.values()) == set(self.held)
            snapshot.check()
            self.taken.append((snapshot, ids))

    @invariant()
    def the_items_are_those_of_the_dictionary(self):
        items = list(self.lake.items())
        assert {int(i.name): (int(i.group[1:]), i.labels["l"]) for i in items} == self.held
        assert len(items) == len(self.held)
        assert all(self.lake.read(i) == i.name.encode() for i in items)
        assert all(i.split == self.splits[int(i.group[1:])] for i in items)

    @invariant()
    def every_blob_is_whole_and_needed(self):
        found = verify(self.lake)
        assert found.corrupt == []
        assert found.blobs == len(self.held) + bool(self.held)

    @invariant()
    def old_snapshots_miss_exactly_what_was_removed(self):
        for snapshot, ids in self.taken[-2:]:
            assert {one.id for one in snapshot.gone()} == {id for id, name in ids.items() if name in self.removed}
        if len(self.taken) > 1:
            (a, before), (b, after) = self.taken[-2:]
            found = difference(a, b)
            assert found.same == len(before.keys() & after.keys())
            assert {before[id] for id in found.gone} == set(before.values()) - set(after.values())
            assert {after[id] for id in found.added} == set(after.values()) - set(before.values())
            assert found.moved == ()


TestLakes = Lakes.TestCase
TestLakes.settings = settings(
    max_examples=12,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
