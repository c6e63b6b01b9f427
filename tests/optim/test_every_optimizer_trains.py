"""Every optimizer that lists cleanly trains the cnn task's smoke preset through the engine."""

from __future__ import annotations

import pytest

from vrcli.errors import UsageError
from vrcli.optim.registry import catalogue

pytestmark = pytest.mark.slow

#: What these need cannot be had from a default: `vr opts show` says which setting.
NEEDS_A_SETTING = {"bsam", "ranger21"}


@pytest.mark.parametrize("name", [row.name for row in catalogue() if not row.refusal])
def test_cnn_smoke(name: str):
    from tasks.cnn import Cnn
    from vrcli.engine.events import Ended
    from vrcli.engine.loop import train
    from vrcli.engine.prepare import prepare
    from vrcli.spec import resolve

    try:
        spec = resolve(Cnn, name, preset="smoke").spec
        prepared = prepare(spec, Cnn)
    except UsageError:
        assert name in NEEDS_A_SETTING
        return
    *_, end = train(prepared)
    assert isinstance(end, Ended)
    assert end.status in ("completed", "diverged")
    assert end.results["steps"] > 0
