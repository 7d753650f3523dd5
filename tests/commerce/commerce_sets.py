"""A snapshot in memory of what drafts make: enough of the lake's for a recipe."""

from collections.abc import Iterable

from daybreak.lab.lake import Draft, Item, split_of


class Some(list):
    """Items, as a snapshot's split shows them."""

    def take(self, indices):
        return [self[n] for n in indices]


class Held:
    """Drafts as a snapshot; a draft without a split falls where its group's hash falls."""

    def __init__(self, drafts: Iterable[Draft]) -> None:
        self._data = {}
        self._splits = {"train": Some(), "validation": Some(), "test": Some()}
        for n, draft in enumerate(drafts):
            split = draft.split or split_of("commerce", draft.group)
            item = Item(
                f"{n:016x}", "commerce", draft.name, draft.group, split, "", dict.fromkeys(draft.parts, ""),
                draft.labels, "", "", "", "",
            )  # fmt: skip
            self._splits[split].append(item)
            self._data[item.id] = draft.parts["data"]

    def split(self, name):
        return self._splits[name]

    def read(self, item, part="data"):
        return self._data[item.id]
