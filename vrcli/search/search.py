"""The search: ask for settings, tell what they gave. The only module that knows scikit-optimize.

A search keeps no state beyond what it was told: the next point is computed from (seed, trials told, points pending)
alone, with a surrogate fitted afresh each time. So nothing of the library is ever stored, and a sweep that is told its
stored trials again goes on exactly as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError
from vrcli.search.axes import Axes, Params, key
from vrcli.tasks.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

METHODS = ("gp", "forest", "random", "sobol")

#: A discrete space up to this size is listed instead of sampled when a surrogate chooses.
LISTED = 4096


def initial_points(trials: int) -> int:
    """Points of a Sobol sequence before the surrogate takes over, where nobody says how many: a third, 3 to 8."""
    return min(8, max(3, trials // 3))


class Exhausted(Exception):
    """Every point of a discrete space has been proposed."""


class Search:
    """Proposes settings that make a value small.

    Args:
        space: axes by name; an empty space holds one point.
        method: what proposes after the first points: a Gaussian process ("gp"), extremely randomised trees ("forest"),
            nothing but chance ("random"), or a low-discrepancy sequence ("sobol").
        seed: same seed, same told values: same points, in any process.
        initial: points of a scrambled Sobol sequence before the surrogate takes over.
    """

    def __init__(self, space: Space, method: str = "gp", seed: int = 0, initial: int = 8) -> None:
        if method not in METHODS:
            raise UsageError(f"must be one of {', '.join(METHODS)}, got {method}", "--search")
        for flag, value, least in (("--initial", initial, 1), ("--search-seed", seed, 0)):
            if value < least:
                raise UsageError(f"{flag} must be >= {least}, got {value}")
        self.axes = Axes(space)
        self.method = method
        self.seed = seed
        self.initial = initial
        self._points: list[Params] = []
        self._values: list[float] = []
        self._failed: list[Params] = []

    def tell(self, params: Mapping[str, Any], value: float | None) -> None:
        """Record a finished point. A value that is missing or not finite says that it diverged."""
        self._points.append({name: params[name] for name in self.axes.names})
        self._values.append(math.inf if value is None or not math.isfinite(value) else float(value))

    def tell_failed(self, params: Mapping[str, Any]) -> None:
        """Record a point whose run failed: that says nothing of its settings, but it is not proposed again."""
        self._failed.append({name: params[name] for name in self.axes.names})

    def ask(self, pending: Sequence[Mapping[str, Any]] = ()) -> Params:
        """The next point: never one that was told or is pending.

        Args:
            pending: points proposed but not told yet; the surrogate takes them, as it does failed ones, for average, so
                that it looks elsewhere.

        Raises:
            Exhausted: there is no other point in the space.
        """
        waiting = self._failed + [{name: params[name] for name in self.axes.names} for params in pending]
        seen = {key(point) for point in chain(self._points, waiting)}
        if len(seen) >= self.axes.size():
            raise Exhausted(f"all {len(seen)} points of the space have been tried")
        number = len(self._points) + len(waiting)
        if self.method == "random":
            return self._unseen(self._random(number), seen)
        if self.method == "sobol" or number < self.initial or not any(map(math.isfinite, self._values)):
            return self._unseen(self._sobol(), seen)
        return self._best_expected(number, waiting, seen)

    def importance(self, repeats: int = 20) -> dict[str, float]:
        """How much each axis matters: the loss of R^2 of a forest when that axis alone is shuffled, as shares of 1.

        Empty with fewer than five told points, or where the values do not differ.
        """
        import numpy as np
        from sklearn.ensemble import ExtraTreesRegressor

        told = scores(self._values)
        if len(told) < 5 or not self.axes.names or np.ptp(told) == 0:
            return {}
        x, owners = self.axes.features(self._points), np.array(self.axes.owners())
        model = ExtraTreesRegressor(200, min_samples_leaf=2, bootstrap=True, random_state=0).fit(x, told)
        rng = np.random.default_rng(0)

        def error(columns: Array) -> float:
            return float(np.mean((model.predict(columns) - told) ** 2))

        base, losses = error(x), {}
        for name in self.axes.names:
            mine, shuffled = owners == name, []
            for _ in range(repeats):
                columns = x.copy()
                columns[:, mine] = x[rng.permutation(len(x))][:, mine]
                shuffled.append(error(columns))
            losses[name] = max(float(np.mean(shuffled)) - base, 0.0)
        total = sum(losses.values())
        return {name: loss / total for name, loss in losses.items()} if total > 0 else {}

    def _unseen(self, points: Iterator[Params], seen: set[str]) -> Params:
        for _ in range(64 * (len(seen) + 1)):
            if key(point := next(points)) not in seen:
                return point
        # Only a discrete space can be so full that chance does not find the gap.
        return next(point for point in self.axes.every() if key(point) not in seen)

    def _random(self, number: int) -> Iterator[Params]:
        import numpy as np

        rng = np.random.default_rng([self.seed, number])
        while True:
            yield self.axes.point(rng.random(len(self.axes)).tolist())

    def _sobol(self) -> Iterator[Params]:
        if not self.axes.names:
            while True:
                yield {}
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(self.axes), scramble=True, rng=self.seed)
        while True:
            yield from (self.axes.point(row) for row in sequence.random(64).tolist())

    def _best_expected(self, number: int, waiting: list[Params], seen: set[str]) -> Params:
        """The unseen candidate of the largest expected improvement under a surrogate of everything told."""
        import warnings

        import numpy as np
        from skopt.acquisition import gaussian_ei
        from threadpoolctl import threadpool_limits

        rng = np.random.default_rng([self.seed, number])
        told = scores(self._values)
        # The constant liar: a pending point is taken for an average one.
        targets = np.concatenate([told, np.zeros(len(waiting))])
        # One thread: faster at this size, and sums in the same order whatever the number of trials that run beside it.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _surrogate(
                self.method, self.axes.features(self._points + waiting), targets, int(rng.integers(2**31))
            )

            def improvement(points: list[Params]) -> Array:
                values: Array = gaussian_ei(self.axes.features(points), model, y_opt=float(told.min()), xi=0.0)
                return values

            return self._climb(improvement, rng, seen)

    def _climb(self, improvement: Any, rng: np.random.Generator, seen: set[str]) -> Params:
        """Maximise over points as they can be run (rounded): a wide draw, then closer and closer around the best."""
        import numpy as np

        if self.axes.size() <= LISTED:
            points = [point for point in self.axes.every() if key(point) not in seen]
            return points[int(np.argmax(improvement(points)))]
        best_told = [self._points[i] for i in np.argsort(self._values, kind="stable")[:5]]
        wide = [self.axes.point(row) for row in rng.random((1000, len(self.axes))).tolist()]
        found = self._rank(wide + self._around(best_told, 0.1, 60, rng), improvement, seen)
        for width in (0.1, 0.03, 0.01, 0.003):
            centres = [point for _, point in found[:5]]
            found = self._rank([p for _, p in found[:5]] + self._around(centres, width, 30, rng), improvement, seen)
        return found[0][1] if found else self._unseen(self._random(len(seen)), seen)

    def _rank(self, points: list[Params], improvement: Any, seen: set[str]) -> list[tuple[float, Params]]:
        unique = {key(point): point for point in points}
        fresh = [point for name, point in unique.items() if name not in seen]
        if not fresh:
            return []
        scored = zip(improvement(fresh).tolist(), fresh, strict=True)
        return sorted(scored, key=lambda pair: -pair[0])

    def _around(self, centres: list[Params], width: float, each: int, rng: np.random.Generator) -> list[Params]:
        """Neighbours: about two coordinates moved, whole numbers and choices by at least one step now and then."""
        import numpy as np

        points = []
        for centre in centres:
            middle = np.array(self.axes.unit(centre))
            moved = rng.random((each, len(middle))) < min(1.0, 2 / max(len(middle), 1))
            steps = rng.normal(0.0, width, (each, len(middle)))
            jumps = rng.random((each, len(middle))) < 0.1
            rows = np.where(jumps & moved, rng.random((each, len(middle))), middle + moved * steps)
            points += [self.axes.point(row) for row in rows.tolist()]
        return points


def scores(values: Sequence[float]) -> Array:
    """Values on a common scale (mean 0, standard deviation 1), cut at as far above the median as the best is below it.

    Losses have a long upper tail that says nothing about where the good points are; cut at a quantile's distance it
    cannot drown the differences between them. What diverged (infinite) gets the cut itself: as bad as the worst that
    finished, whatever numbers the blow-up produced.
    """
    import numpy as np

    raw = np.asarray(values, dtype=float)
    finite = raw[np.isfinite(raw)]
    if not len(finite):
        return np.zeros(len(raw))
    best = float(finite.min())
    reach = (float(np.median(finite)) - best) or (float(finite.max()) - best) or 1.0
    cut: Array = np.minimum(raw, best + 2 * reach)
    spread = float(cut.std())
    return (cut - cut.mean()) / spread if spread > 0 else np.zeros(len(raw))


def _surrogate(method: str, x: Array, y: Array, seed: int) -> Any:
    if method == "forest":
        from skopt.learning import ExtraTreesRegressor

        return ExtraTreesRegressor(60, min_samples_leaf=3, min_variance=1e-4, random_state=seed).fit(x, y)
    from skopt.learning import GaussianProcessRegressor
    from skopt.learning.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    columns = x.shape[1]
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern([0.5] * columns, [(0.05, 20.0)] * columns, nu=2.5)
    kernel = kernel + WhiteKernel(0.01, (1e-5, 0.5))
    return GaussianProcessRegressor(kernel, noise="gaussian", normalize_y=True, random_state=seed).fit(x, y)
