"""Critic health: what played games say about the critic that valued them, in numbers. No torch here.

Most of the numbers are those of any forecast (bias, slope, correlation, explained variance). What the actor lives on is
whether the *advantages* point the right way, and there the obvious measure misleads: both Q - V and G - V contain V, so
a V that is nothing but noise makes them agree. Here an advantage is held against the part of the return that V did not
foretell: the residual of the least-squares line of G on V, in which nothing of V is left to agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

TURNS_SHOWN = 20
"""Turn numbers, from the first, whose TD errors are told apart: few games are longer, and a few games say little."""
JACKKNIFE_GROUPS = 100
"""Most groups of games that are left out in turn: enough for a stable interval, and the cost is bounded."""
ROUNDING = 1e-6
"""Share of the size of values below which a difference is float32's rounding and not the critic's opinion."""


@dataclass(frozen=True, eq=False)
class ValuedTurns:
    """N played turns of several games: what a critic said of them, and what became of them."""

    q: Numbers
    """Both heads' Q of what was said, [N, 2]."""
    v: Numbers
    """The lesser V of the state it was said at, [N]."""
    returns: Numbers
    """Discounted return from the turn on, [N]; behind a truncated game stands the critic's V of its last state."""
    td_errors: Numbers
    """r + γ V(s') - Q(s, a), [N]."""
    game: Counts
    """Which game, from 0, [N]."""
    turn: Counts
    """Which turn of it, from 1, [N]."""

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """Whether all of a turn's values are finite numbers, [N]."""
        values = np.column_stack([self.q, self.v, self.returns, self.td_errors])
        return np.asarray(np.isfinite(values).all(axis=1), np.bool_)

    def only(self, which: npt.NDArray[np.bool_]) -> ValuedTurns:
        """The turns for which ``which``, [N], is true."""
        return ValuedTurns(**{name: values[which] for name, values in vars(self).items()})


@dataclass(frozen=True)
class TurnError:
    """TD errors of one turn number over all games that came so far, in units of return."""

    turn: int
    mean: float
    rms: float
    games: int


@dataclass(frozen=True)
class Health:
    """Numbers of a critic's health, in units of discounted return or without unit; None where they are not defined.

    Q and V are the lesser of both heads, as the actor has them; G is the discounted return from a turn on, A = Q - V.
    """

    games: int
    turns: int
    nonfinite: int
    """Turns with a value that is infinite or not a number; then nothing else is defined."""
    bias: float | None = None
    """Mean of Q - G."""
    slope: float | None = None
    """Of the least-squares line of G on Q: 1 is calibrated, below 1 Q exaggerates differences, above 1 it plays them
    down."""
    correlation: float | None = None
    """Of Q with G."""
    explained_variance: float | None = None
    """1 - Var(G - Q) / Var(G): 1 is perfect, 0 no better than a constant."""
    twin_gap: float | None = None
    """Mean distance of the two Q heads."""
    sign_share: float | None = None
    """Share of turns whose A has the right sign, each counting |A|; 0.5 is coin flipping (see ``sign_share``)."""
    sign_share_ci95: float | None = None
    """Half-width of its 95 % interval, clustered by game."""
    advantage_correlation: float | None = None
    """Of A with the part of G that V did not foretell: as the actor follows means, this and not the share decides where
    good utterances are long shots, and most of them disappoint."""
    advantage_correlation_ci95: float | None = None
    """Half-width of its 95 % interval, clustered by game."""
    advantage_std: float | None = None
    q_std: float | None = None
    return_std: float | None = None
    td_errors: tuple[TurnError, ...] = ()

    @property
    def relative_twin_gap(self) -> float | None:
        """The twin gap in spreads of the returns."""
        if self.twin_gap is None or not self.return_std:
            return None
        return self.twin_gap / self.return_std

    def metrics(self) -> dict[str, float]:
        """One flat name per number that is defined, as runs log them."""
        numbers = {
            "nonfinite": float(self.nonfinite),
            "bias": self.bias,
            "slope": self.slope,
            "return_correlation": self.correlation,
            "explained_variance": self.explained_variance,
            "relative_twin_gap": self.relative_twin_gap,
            "sign_share": self.sign_share,
            "sign_share_ci95": self.sign_share_ci95,
            "advantage_correlation": self.advantage_correlation,
            "advantage_correlation_ci95": self.advantage_correlation_ci95,
            "advantage_std": self.advantage_std,
            "q_std": self.q_std,
            "return_std": self.return_std,
        }
        for error in self.td_errors:
            numbers[f"td_mean_turn_{error.turn:02d}"] = error.mean
            numbers[f"td_rms_turn_{error.turn:02d}"] = error.rms
        return {name: value for name, value in numbers.items() if value is not None}


def measure_health(turns: ValuedTurns) -> Health:
    """All numbers of the played turns of at least one game."""
    games = len(np.unique(turns.game))
    nonfinite = int((~turns.finite).sum())
    if nonfinite:
        return Health(games, len(turns.v), nonfinite)
    q, v, returns = turns.q.min(axis=1), turns.v, turns.returns
    share, half_width = sign_share(q, v, returns, turns.game)
    correlation, around = (
        (None, None) if share is None else _by_games(_advantage_correlation, q, v, returns, turns.game)
    )
    return_variance = _spread(returns) ** 2
    return Health(
        games=games,
        turns=len(q),
        nonfinite=0,
        bias=float((q - returns).mean()),
        slope=_slope(q, returns),
        correlation=_correlation(q, returns),
        explained_variance=1 - float((returns - q).var()) / return_variance if return_variance else None,
        twin_gap=float(np.abs(turns.q[:, 0] - turns.q[:, 1]).mean()),
        sign_share=share,
        sign_share_ci95=half_width,
        advantage_correlation=correlation,
        advantage_correlation_ci95=around,
        advantage_std=float(_advantage(q, v).std()),
        q_std=_spread(q),
        return_std=_spread(returns),
        td_errors=tuple(_by_turn(turns)),
    )


def sign_share(q: Numbers, v: Numbers, returns: Numbers, game: Counts) -> tuple[float | None, float | None]:
    """Share of turns whose advantage has the right sign, each turn counting |A|, and its 95 % interval's half-width.

    A is Q - V less its mean, so that a constant offset of V neither fakes nor hides anything; right is the sign of what
    V did not foretell of the return. A turn counts as much as it does in the actor's gradient, in proportion to |A|,
    which makes 0.5 coin flipping however skewed the returns are: A above and below its mean weighs the same.

    The interval is a delete-a-group jackknife over games (turns of one game share their luck), which repeats the
    centring and the line on V. q, v, returns, game: [N]. Share and interval are None where the critic says the same of
    every utterance or V foretells everything, the interval also for a single game.
    """
    return _by_games(_share, q, v, returns, game)


def _by_games(
    number: Callable[[Numbers, Numbers, Numbers], float | None], q: Numbers, v: Numbers, returns: Numbers, game: Counts
) -> tuple[float | None, float | None]:
    """A number of all turns, and the half-width of its 95 % interval by leaving out games; None where not defined."""
    whole = number(q, v, returns)
    groups = np.unique(game, return_inverse=True)[1] % JACKKNIFE_GROUPS
    count = int(groups.max()) + 1
    if whole is None or count < 2:
        return whole, None
    without = [number(q[kept], v[kept], returns[kept]) for kept in (groups != left_out for left_out in range(count))]
    found = np.array([whole if other is None else other for other in without])
    variance = (count - 1) / count * float(((found - found.mean()) ** 2).sum())
    return whole, 1.96 * variance**0.5


def _advantage_correlation(q: Numbers, v: Numbers, returns: Numbers) -> float | None:
    """Of the advantages with what V did not foretell."""
    return _correlation(_advantage(q, v), _unforetold(v, returns))


def _share(q: Numbers, v: Numbers, returns: Numbers) -> float | None:
    """The sign share alone; what came exactly as V foretold counts half."""
    size = max(np.abs(q).max(), np.abs(v).max(), np.abs(returns).max())
    advantage, unforetold = _advantage(q, v), _unforetold(v, returns)
    weight = np.abs(advantage)
    came = np.where(np.abs(unforetold) <= ROUNDING * size, 0.0, np.sign(unforetold))
    if not came.any() or weight.mean() <= ROUNDING * size:
        return None
    return float((weight * (1 + np.sign(advantage) * came) / 2).sum() / weight.sum())


def _advantage(q: Numbers, v: Numbers) -> Numbers:
    """Q - V less its mean, [N]."""
    advantage: Numbers = q - v - (q - v).mean()
    return advantage


def _unforetold(v: Numbers, returns: Numbers) -> Numbers:
    """Residual of the least-squares line of the return on V, [N]: mean 0, and without correlation with V."""
    slope = _slope(v, returns) or 0.0
    residual: Numbers = returns - returns.mean() - slope * (v - v.mean())
    return residual


def _spread(x: Numbers) -> float:
    """Standard deviation; 0 where it is no more than rounding."""
    spread = float(x.std())
    return spread if spread > ROUNDING * float(np.abs(x).max()) else 0.0


def _slope(x: Numbers, y: Numbers) -> float | None:
    """Slope of the least-squares line of y on x; None where x does not vary."""
    spread = _spread(x)
    return float(((x - x.mean()) * (y - y.mean())).mean()) / spread**2 if spread else None


def _correlation(x: Numbers, y: Numbers) -> float | None:
    """Pearson's; None where one of both does not vary."""
    spreads = _spread(x) * _spread(y)
    return float(((x - x.mean()) * (y - y.mean())).mean()) / spreads if spreads else None


def _by_turn(turns: ValuedTurns) -> Iterator[TurnError]:
    for number in range(1, TURNS_SHOWN + 1):
        errors = turns.td_errors[turns.turn == number]
        if len(errors):
            yield TurnError(number, float(errors.mean()), float((errors**2).mean() ** 0.5), len(errors))
