"""The experiment: one net with each activation on the same folds and seeds, and a verdict on every pair."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import skorch

from actlab.activation.definition import Activation
from actlab.comparison.chance_level import Scorer
from actlab.comparison.config import ComparisonConfig, parse_budget
from actlab.comparison.curves import own_curves
from actlab.comparison.files import latex, markdown, read_comparison, write_comparison
from actlab.comparison.judge import judge_pairs
from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Finished, Runner
from actlab.comparison.runs import count_failures, select_best
from actlab.comparison.tables import (
    describe_plan,
    diagnostics_table,
    history_table,
    ranking_table,
    results_table,
    tuning_table,
    verdict_table,
)
from actlab.comparison.user_model import ModuleLike, Replaced
from actlab.data.dataset import Dataset, load_data
from actlab.errors import UsageError
from actlab.files import output_folder
from actlab.ledger.session import LedgerLike
from actlab.report.sentences import comparison_sentences
from actlab.report.tables import to_json_rows
from actlab.stats.sequential import SequentialTest
from actlab.stats.verdict import LEVEL
from actlab.training.train import TrainSettings

if TYPE_CHECKING:
    from actlab.integrations.hiplot import HiPlotPage

_UNREAD = ["split", "how", "reason_alone", "chance", "key"]  # columns of the results that are not plotted


@dataclass(frozen=True)
class Comparison:
    """What came out of a comparison.

    Attributes:
        results: One row per run, in the order of activations, seeds and folds: ``activation``, ``split``
            (of the rows: 0 without shuffling, from 1 shuffled; two seeds share one), ``fold`` (from 1),
            ``seed``, what was tuned by its name, ``score`` (more is better), ``accuracy`` (0 to 1; NaN for a
            regression) and ``loss`` (mean cross-entropy in nats, or squared error; NaN where skorch trained
            the net alone) on the rows of the fold, ``epochs`` trained, ``seconds``
            (its share of the time its fleet took), ``how`` it was trained, ``reason_alone``: why
            it trained alone, its
            ``failure``: why it has no score, if it has none, ``saved_bytes``: what a step
            saves for its backward
            pass, ``chance``: whether the models of this seed, all folds together, score no better than
            predictors that ignore the features, and its ``key`` in the ledger, if there is one.
        history: One row per run and epoch: ``activation``, ``split``, ``fold``, ``seed`` and the columns of
            :func:`~actlab.training.history_frame`.
        verdicts: One row per pair: ``a``, ``b``, ``verdict`` (what ``a`` is beside ``b``: ``better``,
            ``worse``, ``equivalent`` or ``undecided``; ``none`` where no test is possible), ``difference``
            of the scores with its interval ``low`` to ``high``, the ``level`` at which that misses and a
            verdict errs, ``p`` and ``p_holm``, ``p_better``, ``p_equivalent``, ``p_worse``: the chances
            that the difference is above, within and below the region of practical equivalence, ``wins``:
            the share of runs in which ``a`` was better, with its bootstrap interval ``wins_low`` to
            ``wins_high``, ``runs`` and ``seeds`` that were paired, ``more_seeds``: about how many more would
            decide, and a ``reason`` in words where there is no decision.
        ranking: Best first: ``rank`` (1 more than the number of activations that are better; missing without
            a mean, or at chance level), ``activation``, ``mean``, ``std`` (over runs, divided by their
            number), ``runs``, ``status`` (what is wrong with it), and the means of each fold ``fold_1``, ...
            or, with several seeds, of each seed ``seed_0``, ...
        tuning: One row per run that was trained to choose a value: ``activation``, ``split``, ``fold``,
            ``seed``, the values, ``valid_acc`` and ``valid_loss`` on the rows held back, ``chosen``.
        diagnostics: What was measured on 128 validation rows: one row per run, epoch
            and layer: ``activation``, ``split``, ``fold``, ``seed``, ``epoch``, ``part`` (``activation`` or
            ``weights``), ``layer`` (from 1), ``name`` in the net; of an activation its ``units``, which share
            of them is ``dead`` (a slope below 0.001 on all rows: nothing trains through it), the share of
            values that are ``saturated`` (a slope below 0.05), a histogram of its outputs (shares in
            thousandths, ``values``, of 20 bins from ``low`` to ``high``), the share of gradients that are 0
            (``grad_zero``) and a histogram of the decimal logarithms of the others (``grad_low``,
            ``grad_high``, ``gradients``), those of the loss of one row by the outputs; of weights the root
            mean square of the mean loss's ``gradient``. Empty where nothing was looked into.
        curves: Of activations that are modules of one's own, ``x``, ``f``, ``f1`` and ``f2``: the function
            and its derivatives as they begin; one row per ``activation`` and point.
        about: What was compared: ``data``, ``fingerprint``, ``metric``, ``region`` (half its width),
            ``region_is``, ``folds``, ``seeds``, ``level``, ``trained``: runs in all, ``race`` if there was
            one, ``settings``, the ``net``, versions, ``processor`` and ``date``, and the ``command`` if there
            was one.
    """

    results: pd.DataFrame
    history: pd.DataFrame
    verdicts: pd.DataFrame
    ranking: pd.DataFrame
    tuning: pd.DataFrame = field(default_factory=pd.DataFrame)
    diagnostics: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write all tables into a folder, which :meth:`load` reads; return the files."""
        return write_comparison(self, output_folder(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read a comparison from a folder that ``actlab compare`` or :meth:`to_csv` has written.

        Raises:
            UsageError: There is none, or it is broken.
        """
        return cls(**read_comparison(Path(folder)))

    def sentences(self) -> list[str]:
        """Say what is known, and what is not."""
        return comparison_sentences(self)

    def to_markdown(self) -> str:
        """Return ranking and verdicts as Markdown tables."""
        return markdown(self)

    def to_latex(self) -> str:
        """Return ranking and verdicts as LaTeX tables, for ``booktabs``."""
        return latex(self)

    def to_hiplot(self) -> HiPlotPage:
        """Return :attr:`results` as a HiPlot page, one line per run, coloured by activation.

        Columns in which no run has anything are left out. In a notebook ``.display()`` shows it; HiPlot of
        another table is :func:`actlab.integrations.hiplot.to_hiplot`.

        Raises:
            ImportError: HiPlot is not installed; the message says how to get it.
        """
        from actlab.integrations.hiplot import to_hiplot

        columns = self.results.drop(columns=_UNREAD, errors="ignore").dropna(axis="columns", how="all")
        page = to_hiplot(to_json_rows(columns))
        page.experiment.colorby = "activation"
        return page


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison, with the runs that have ended.

    Attributes:
        results: The rows of :attr:`Comparison.results` so far, without what needs all runs.
        history: Their rows of :attr:`Comparison.history`.
    """

    def __init__(self, results: pd.DataFrame, history: pd.DataFrame, total: int, resumable: bool) -> None:
        hint = "; run it again to resume" if resumable else ""
        super().__init__(f": {len(results)} of {total} runs were trained{hint}")
        self.results, self.history = results, history


def compare(
    activations: Iterable[str | Activation[Any]],
    data: Dataset | str | Path,
    *,
    folds: int = 3,
    seeds: int = 1,
    until_decided: bool = False,
    budget: int | str | None = None,
    tune: Mapping[str, Sequence[Any]] | None = None,
    module: ModuleLike | skorch.NeuralNet | None = None,
    replace: Replaced | None = None,
    scoring: str | Scorer | None = None,
    rope: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    epochs: int = 25,
    batch_size: int = 128,
    lr: float = 0.01,
    momentum: float = 0.95,
    num_units: int = 128,
    device: str = "cpu",
    precision: str = "float32",
    ledger: LedgerLike | None = None,
    executor: Executor | None = None,
    diagnostics: bool | None = None,
    verbose: int = 0,
) -> Comparison:
    """Train a net with each activation on the same folds and seeds, and say which is really better.

    Runs are paired: every activation starts from the same weights and sees the same rows in the same order;
    ``jobs`` changes the time and nothing else. One seed has the folds that scikit-learn makes without
    shuffling; of several, every two have folds of rows that are shuffled anew.

    Args:
        activations: Specs such as ``"relu"`` or ``"leaky_relu(negative_slope=0.2)"``, and definitions that a
            spec names as well: those of the catalogue, and of :func:`actlab.formula` without ``name``,
            ``trainable`` and ``at``. All tables have the specs.
        data: A dataset, or what :func:`~actlab.data.load_data` takes.
        folds: Parts that the rows are split into, stratified by class.
        seeds: How many times all folds are trained.
        until_decided: Add seeds in rounds, for what is undecided only, up to 32; see
            :func:`actlab.stats.sequential.race`.
        budget: What that may take: so many runs, or minutes as ``"20m"``.
        tune: Values to choose from, such as ``{"lr": [0.003, 0.01, 0.03]}``: every run is trained with each,
            and that which is best on the rows held back, which are training rows, is scored.
        module: The net: a module, its class, what makes it, ``"package.module:Net"``, or a skorch net, whose
            own epochs, batch size, learning rate and so on are then used. One that takes an ``activation``,
            ``act_layer`` or the like gets a module, or a class if it calls its argument; in any other the
            activation is put in by :func:`actlab.swap`. Lazy layers are initialized with two samples.
        replace: Which activation of the module is replaced, as :func:`actlab.swap` names it; the only kind
            that it has when left out.
        scoring: A scorer of scikit-learn or its name; accuracy, or R^2 of a regression, when left out.
        rope: Half the width of the region of practical equivalence, in units of the score. None: one row
            of all and at least 0.001 for scores from 0 to 1, a hundredth of the median score for others.
        seed: The first seed: where the initial weights come from.
        jobs: Processes that train. None: as many as PyTorch would use threads, if that is worth it.
        epochs: Passes over the training rows.
        batch_size: Rows in a step.
        lr: Learning rate of SGD.
        momentum: Momentum of SGD.
        num_units: Width of the first hidden layer.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or ``"bf16"`` for matrix products of bfloat16 factors.
        ledger: A :class:`~actlab.ledger.Ledger` or its file. Runs that are in it are not trained again, and
            those that end are put into it.
        executor: Where nets are trained instead, any :class:`concurrent.futures.Executor`; ``jobs`` does
            nothing then.
        diagnostics: Whether to collect :attr:`Comparison.diagnostics` after every epoch. None: after as
            many epochs as cost at most a twentieth of the time that training takes.
        verbose: 0 for silence; 1 for progress on standard error, 2 for more of it.

    Returns:
        Results, histories, verdicts and the ranking.

    Raises:
        UsageError: Something in the call is wrong; the message names everything that is.

    Examples:
        >>> comparison = compare(["relu", "tanh"], "digits", epochs=2)
        >>> comparison.ranking.columns.to_list()
        ['rank', 'activation', 'mean', 'std', 'runs', 'status', 'fold_1', 'fold_2', 'fold_3']
        >>> comparison.verdicts[["a", "b"]].to_numpy().tolist()
        [['relu', 'tanh']]
    """
    config = ComparisonConfig(
        activations=activations,
        dataset=_dataset(data),
        settings=TrainSettings(epochs, batch_size, lr, momentum, seed, device, num_units, precision),
        folds=folds,
        seeds=seeds,
        until_decided=until_decided,
        budget=budget,
        tune=tune,
        module=module,
        replace=replace,
        scoring=scoring,
        rope=rope,
        jobs=jobs,
        diagnostics=diagnostics,
    )
    return run_comparison(ComparisonPlan(config), ledger=ledger, executor=executor, verbose=verbose)


def run_comparison(
    plan: ComparisonPlan,
    *,
    ledger: LedgerLike | None = None,
    executor: Executor | None = None,
    verbose: int = 0,
) -> Comparison:
    """Train the runs of a plan, judge every pair, and return the tables.

    Args:
        plan: The plan.
        ledger: As for :func:`compare`.
        executor: As for :func:`compare`.
        verbose: As for :func:`compare`.

    Raises:
        Interrupted: Ctrl-C was pressed after some runs had ended.
    """
    config, about = plan.config, describe_plan(plan)
    with Runner(plan, ledger, executor, verbose) as runner:
        try:
            if config.until_decided:
                test, region = _train_until_decided(plan, runner, about, verbose)
            else:
                runner.train(plan.runs(config.names, range(config.seeds)), about)
                test, region = None, _region(plan, runner.runs)
            comparison = _make_comparison(plan, runner, region, test, about)
            runner.end()
            return comparison
        except KeyboardInterrupt as interruption:
            if not runner.runs:
                raise
            best = select_best(runner.runs, config.names, plan.candidates)
            tables = results_table(best, plan, runner.died), history_table(best)
            raise Interrupted(*tables, runner.planned, ledger is not None) from interruption


def _dataset(data: Dataset | str | Path) -> Dataset:
    if not isinstance(data, Dataset | str | Path):
        right = "a Dataset, or a name or file for load_data; use load_data to make a Dataset"
        raise UsageError(f"data is of type {type(data).__name__}; it must be {right}")
    return data if isinstance(data, Dataset) else load_data(data)


def _train_until_decided(
    plan: ComparisonPlan, runner: Runner, about: Mapping[str, Any], verbose: int
) -> tuple[SequentialTest, tuple[float, str]]:
    """Train rounds of seeds for what is undecided; return the test and the region of equivalence."""
    start, config = time.monotonic(), plan.config
    test, budget = SequentialTest(config.names), parse_budget(config.budget)
    region = (math.nan, "")
    while not test.ended:
        planned = plan.runs(test.remaining, range(test.seeds, test.next_seeds))
        if reason := budget.refusal(runner.planned, len(planned), time.monotonic() - start):
            test.stop(reason)
            break
        runner.train(planned, about, test.analyses + 1)
        best = select_best(runner.runs, config.names, plan.candidates)
        if test.analyses == 0:
            region = _region(
                plan, best
            )  # the first round has all activations; every round has the same region
        test.update(judge_pairs(best, plan, region[0], test.level), count_failures(best))
        if verbose:
            pairs = len(test.verdicts)
            left = f"{pairs - len(test.decided)} of {pairs} pairs are undecided"
            print(f"actlab: after {test.seeds} seeds {left}", file=sys.stderr)
    return test, region


def _region(plan: ComparisonPlan, runs: Sequence[Finished]) -> tuple[float, str]:
    """Return half the width of the region of practical equivalence, and what it is."""
    if plan.config.rope is not None:
        return plan.config.rope, "as given"
    best = select_best(runs, plan.config.names, plan.candidates)
    return plan.scoring.region([run.score for run in best])


def _make_comparison(
    plan: ComparisonPlan,
    runner: Runner,
    region: tuple[float, str],
    test: SequentialTest | None,
    about: Mapping[str, Any],
) -> Comparison:
    """Judge the runs and make the tables."""
    config = plan.config
    best = select_best(runner.runs, config.names, plan.candidates)
    level, seeds, out = (test.level, test.seeds, test.out) if test else (LEVEL, config.seeds, {})
    pairs = test.verdicts if test else judge_pairs(best, plan, region[0], level)
    race = {"race": {"looks": test.analyses, "ended": test.ended, "out": dict(out)}} if test else {}
    results = results_table(best, plan, runner.died)
    verdicts = verdict_table(pairs, level, config.folds, count_failures(best), out)
    return Comparison(
        results=results,
        history=history_table(best),
        verdicts=verdicts,
        ranking=ranking_table(results, verdicts, seeds),
        tuning=tuning_table(runner.runs, best),
        diagnostics=diagnostics_table(best),
        curves=own_curves(
            [activation for activation in config.resolved if activation.spec not in runner.died]
        ),
        about={
            **about,
            "trained": runner.planned,
            "region": region[0],
            "region_is": region[1],
            "points": plan.scoring.in_points([run.score for run in best]),
            "level": level,
            "seeds": seeds,
            **race,
        },
    )
