"""`daybreak rl verify`, its quick part, for every preset."""

from __future__ import annotations

import pytest

from daybreak.errors import UserError
from daybreak.systems.rl import verify


def test_the_mathematics_is_right():
    found = list(verify.mathematics())
    assert len(found) >= 10
    assert [check for check in found if not check.fine] == []


@pytest.mark.parametrize("preset", verify.presets())
def test_every_preset_is_verified(preset):
    assert [check for check in verify.checks(preset, quick=True) if not check.fine] == []


def test_a_wrong_return_is_seen(monkeypatch):
    whole = verify.returns.gae
    monkeypatch.setattr(verify.returns, "gae", lambda r, v, n, t, e, g, lam: whole(r, v, n, e, e, g, lam))
    assert "advantages (GAE) are their sum" in [check.name for check in verify.mathematics() if not check.fine]


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="did you mean rainbow"):
        verify.family_of("rainbwo")
