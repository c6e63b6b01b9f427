"""vr as a library: the commands as functions, which return tables, frames and verdicts.

    vrcli.run("cnn", opt="vradam", beta3=1.0, seeds=3)
    vrcli.sweep("cnn", opt=["vradam", "adamw"], trials=20)
    vrcli.compare("cnn", opt=["vradam", "adamw"], seeds=5)
    vrcli.study("vradam/table3", scale="laptop")
    vrcli.load("vr.db").runs()

    with vrcli.track("my-gpt", optimizer=optimizer, seed=0, settings=vars(args)) as run:    # your own loop
        run.log(step, train_loss=loss)

`vrcli.optim` has the optimizers. Importing this imports nothing slow: that comes with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vrcli.version import __version__

if TYPE_CHECKING:
    from vrcli.api import compare, load, plan, run, sweep
    from vrcli.record.begin import track
    from vrcli.studies import study

__all__ = ["__version__", "compare", "load", "plan", "run", "study", "sweep", "track"]

if not TYPE_CHECKING:  # a type checker would believe that there is every name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'vrcli' has no attribute {name!r}")
        if name == "track":
            from vrcli.record.begin import track

            return track
        if name == "study":  # the room of that name, which can be called
            import vrcli.study as room

            return room
        from vrcli import api

        return getattr(api, name)

    def _study(*given: Any, **words: Any) -> Any:
        """What `vrcli.study(...)` calls."""
        from vrcli.studies import study

        return study(*given, **words)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
