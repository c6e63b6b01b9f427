"""A task that reads a file and says so, and one that reads another and does not."""

from __future__ import annotations

from pathlib import Path

from valley import Valley

from vrcli.tasks.base import Split, Splits


class Filed(Valley):
    name = "filed"

    def files(self):
        return [Path(self.config.dataset)]

    def data(self, generator):
        scale, found = float(Path(self.config.dataset).read_text()), super().data(generator)
        parts = [Split((part.tensors[0] * scale, part.tensors[1])) for part in (found.train, found.val, found.test)]
        return Splits(*parts, dataset="filed", about="one file")


class Silent(Filed):
    name = "silent"

    def data(self, generator):
        return super().data(generator)
