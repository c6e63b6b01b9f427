"""The contract itself: what a task may not say."""

import pytest

from vrcli.tasks.registry import UnknownTask, load


def test_a_bound_of_divergence_under_another_name_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steeper.py").write_text(
        "from vrcli.cli.scaffold.task_template import Spirals\nclass Steeper(Spirals):\n    ceiling = 0.75\n"
    )
    with pytest.raises(UnknownTask) as refusal:
        load("steeper:Steeper")
    assert str(refusal.value).endswith("Steeper sets ceiling; a task's bound is called diverged_above")
    assert "\n" not in str(refusal.value)
