"""Compare activations: train one network with each on the same folds and seeds, and judge every pair."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd
import skorch
from sklearn.pipeline import Pipeline

from actlab.comparison.chance_level import ChanceTest
from actlab.comparison.config import ComparisonConfig, parse_budget
from actlab.comparison.costs import measure_costs
from actlab.comparison.curves import sample_curves
from actlab.comparison.files import read_comparison, write_comparison
from actlab.comparison.pairing import judge_pairs
from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.runner import Finished, Runner
from actlab.comparison.runs import count_failures, select_best, select_given
from actlab.comparison.scoring import Scorer
from actlab.comparison.tables import (
    describe_plan,
    make_diagnostics_table,
    make_history_table,
    make_parameters_table,
    make_ranking_table,
    make_results_table,
    make_tuning_table,
)
from actlab.comparison.tuning import train_planned
from actlab.comparison.user_model import ModuleLike, Replaced
from actlab.data.load import load_data
from actlab.files import create_output_folder
from actlab.judging.verdict_tables import make_verdict_table
from actlab.ledger.session import LedgerLike
from actlab.report.paper_tables import format_latex, format_markdown
from actlab.report.sentences import describe_comparison
from actlab.report.summary import format_summary
from actlab.report.tables import to_json_rows
from actlab.report.wrapping import WIDTH
from actlab.spec import ActivationLike
from actlab.stats.posterior import LEVEL
from actlab.stats.sequential import Pair, SequentialTest
from actlab.stats.verdict import Verdict
from actlab.training.settings import TrainSettings

if TYPE_CHECKING:
    from actlab.data.load import Source
    from actlab.integrations.hiplot import HiPlotPage

_UNREAD = ["split", "how", "reason_alone", "chance", "key"]  # columns of the results that are not plotted


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of a comparison: its tables and settings.

    ``print(comparison)`` shows a summary, and a notebook shows the ranking with a chart.

    Attributes:
        results: One row per run, in the order of activations, seeds and folds: ``activation``; ``split`` (the
            shuffle of the samples, which two seeds share; 0 without shuffling); ``fold`` (from 1); ``seed``;
            one column per tuned parameter; ``score`` (greater is better); ``accuracy`` on the test samples (0
            to 1; NaN for a regression or several labels); ``loss`` on the test samples (mean cross-entropy in
            nats or mean squared error; NaN if skorch trained the network); the number of ``epochs``;
            ``seconds`` (the run's share of the time of its fleet); ``how`` it was trained; ``reason_alone``
            (why it trained alone); ``failure`` (why it has no score); ``saved_bytes`` (what a step saves for
            backward); ``chance`` (whether the activation's runs with this seed are at chance level); and its
            ``key`` in the ledger, if there is one.
        history: One row per run and epoch: ``activation``, ``split``, ``fold``, ``seed`` and the columns of
            :func:`~actlab.training.history_frame`.
        verdicts: One row per pair: ``a``; ``b``; ``verdict`` (``a`` is ``better``, ``worse`` or
            ``equivalent``, or the pair is ``undecided``; ``none`` if no test is possible); the
            ``difference`` of the scores; its interval from ``low`` to ``high``; the ``level`` of the interval
            and of the verdict; ``p``; ``p_holm``; ``p_better``, ``p_equivalent`` and ``p_worse`` (the
            probabilities that the difference is above, within and below the region of practical
            equivalence); ``wins`` (the share of runs in which ``a`` was better) with its bootstrap interval
            from ``wins_low`` to ``wins_high``; the numbers of paired ``runs`` and ``seeds``; ``more_seeds``
            (about how many more seeds would decide the pair); and the ``reason`` if there is no decision.
        ranking: One row per activation, the best first: ``rank`` (one more than the number of better
            activations; missing without a mean or at chance level); ``activation``; ``mean``; ``std`` over
            the runs (``ddof=0``); ``runs``; ``status`` (failed runs or chance level); and the means of the
            folds ``fold_1``, ... or, with several seeds, of the seeds ``seed_0``, ...
        tuning: With tuned values, one row per trial: ``activation``, ``split``, ``fold``, ``seed``, the
            values, the number of ``epochs``, ``valid_acc`` and ``valid_loss`` on the validation samples after
            them, ``screened_acc`` and ``screened_loss`` after the epochs that automatic tuning gives to every
            candidate, ``failure``, and whether the values were ``chosen``.
        diagnostics: One row per run, epoch and layer, measured on 128 validation samples; empty without
            diagnostics. All rows have ``activation``, ``split``, ``fold``, ``seed``, ``epoch``, ``part``
            (``activation`` or ``weights``), ``layer`` (from 1) and the ``name`` of the layer. Rows of
            activations have the number of ``units``; the share of ``dead`` units (a slope below 0.001 on all
            samples); the share of ``saturated`` values (a slope below 0.05); a histogram of the outputs
            (``values``, in thousandths, for 20 bins from ``low`` to ``high``); the share of zero gradients
            ``grad_zero``; and a histogram of the decimal logarithms of the other gradients (``gradients``,
            from ``grad_low`` to ``grad_high``). These are gradients of a sample's loss with respect to the
            outputs. Rows of weights have ``gradient``, the root mean square gradient of the mean loss.
        parameters: For activations with trained parameters, one row per run and parameter after training:
            ``activation``, ``split``, ``fold``, ``seed``, the ``layer`` (from 1) of the activation, the
            ``name`` of the parameter, and its ``value`` (the mean over channels).
        curves: For your own activations, one row per ``activation`` and point: ``x``, ``f``, ``f1`` and
            ``f2``, the function and its derivatives before training.
        costs: One row per activation, measured alone on a matrix of 128 x 256 after training: ``nanoseconds``
            per element, forward and backward, in eager mode; ``saved_bytes`` per element for backward; and
            ``torch_nanoseconds`` and ``torch_saved_bytes`` of its torch equivalent, NaN if it has none.
        about: Settings and environment: ``data``, ``fingerprint``, ``preprocessing`` (how a table was
            encoded), ``metric``, ``error_units`` (for an error of a regression, the standard deviation of
            each target, and its name if it has one), ``region`` (half the width of the region of practical
            equivalence), ``region_is`` (how it was chosen), ``folds``, ``split`` (the kind of folds, or
            ``test set``), ``weighted`` (whether samples have weights), ``test`` (of a fixed test set: its
            ``name``, the numbers of ``samples``, ``training_samples`` and, among these,
            ``validation_samples``, its ``missing_labels``, and whether the score ``has_outcomes``, so that
            intervals include the variance of test samples), ``seeds``, ``level``, ``trained`` (the number of
            runs), ``sequential_test`` (number of ``interim_analyses``, its ``stop_reason``, and the
            activations that were ``dropped``), ``settings``, ``model_settings`` (of your own skorch model),
            ``chance_level`` (if a run is at chance level, the score of the best constant predictor), ``net``,
            versions, ``processor``, ``date``, ``command``, and ``specs`` (by name, the spec of each
            activation whose name is not its spec; None for a Python object).
        as_given: With tuned values, the comparison with the settings as given, without diagnostics,
            parameters, curves and costs; else None.
    """

    results: pd.DataFrame
    history: pd.DataFrame
    verdicts: pd.DataFrame
    ranking: pd.DataFrame
    tuning: pd.DataFrame = field(default_factory=pd.DataFrame)
    diagnostics: pd.DataFrame = field(default_factory=pd.DataFrame)
    parameters: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    about: Mapping[str, Any] = field(default_factory=dict)
    as_given: Comparison | None = None

    def __repr__(self) -> str:
        return format_summary(self)

    def __str__(self) -> str:
        """Return a summary that also fits a terminal with fewer than 80 columns."""
        return format_summary(self, min(WIDTH, shutil.get_terminal_size().columns))

    def _repr_html_(self) -> str:
        """Return the summary that a notebook shows."""
        from actlab.report.html.notebook import render_summary

        return render_summary(self)

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write all tables into a folder, which :meth:`load` reads; return the files."""
        return write_comparison(self, create_output_folder(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read a comparison from a folder that ``actlab compare`` or :meth:`to_csv` has written.

        Raises:
            UsageError: There is no comparison in the folder, or it is damaged.
        """
        fields = read_comparison(Path(folder))
        given = fields.pop("as_given")
        return cls(**fields, as_given=given and cls(**given))

    def sentences(self) -> list[str]:
        """Return the result in sentences."""
        return describe_comparison(self)

    def report(self, path: str | Path) -> Path:
        """Write the report page: one HTML file with all tables and charts, which makes no network request.

        Args:
            path: The file, such as ``"report.html"``. It is written completely or not at all.

        Returns:
            The file.

        Raises:
            ImportError: Jinja is not installed; the message explains how to install it.
            UsageError: The file cannot be written.
        """
        from actlab.report.html.page import write_report

        write_report(self, Path(path))
        return Path(path)

    def to_markdown(self, table: str = "ranking") -> str:
        """Return a table as Markdown, with the name of the statistical test below it.

        Args:
            table: ``"ranking"`` or ``"verdicts"``. Scores that are shares are in percent, and their
                differences in percentage points.

        Raises:
            UsageError: There is no such table.
        """
        return format_markdown(self, table)

    def to_latex(self, table: str = "ranking") -> str:
        """Return a table as a LaTeX float for ``booktabs``, with the name of the test in its caption.

        Args:
            table: As for :meth:`to_markdown`.

        Raises:
            UsageError: There is no such table.
        """
        return format_latex(self, table)

    def to_hiplot(self) -> HiPlotPage:
        """Return :attr:`results` as a HiPlot page, one line per run, coloured by activation.

        Empty columns are omitted. In a notebook, ``.display()`` shows the page. For other tables, use
        :func:`actlab.integrations.to_hiplot`.

        Raises:
            ImportError: HiPlot is not installed; the message explains how to install it.
        """
        from actlab.integrations.hiplot import to_hiplot

        columns = self.results.drop(columns=_UNREAD, errors="ignore").dropna(axis="columns", how="all")
        page = to_hiplot(to_json_rows(columns))
        page.experiment.colorby = "activation"
        return page


class Interrupted(KeyboardInterrupt):
    """Raised after Ctrl-C during a comparison. It has the finished runs.

    Args:
        results: The rows of :attr:`Comparison.results` for the finished runs.
        history: The rows of :attr:`Comparison.history` for the finished runs.
        progress: How many runs have ended, and what to do, for the message.

    Attributes:
        results: The rows of :attr:`Comparison.results` for the finished runs.
        history: The rows of :attr:`Comparison.history` for the finished runs.
    """

    def __init__(self, results: pd.DataFrame, history: pd.DataFrame, progress: str) -> None:
        super().__init__(f": {progress}")
        self.results, self.history = results, history


def compare(
    activations: Iterable[ActivationLike] | Mapping[str, ActivationLike],
    data: Source,
    *,
    target: Any = None,
    drop: str | Sequence[str] = (),
    regression: bool = False,
    scale: str | None = None,
    test: Any = None,
    groups: Any = None,
    weights: Any = None,
    folds: int | None = None,
    split: str | None = None,
    seeds: int | None = None,
    until_decided: bool = False,
    budget: int | str | None = None,
    tune: str | Mapping[str, Sequence[Any]] | None = "auto",
    module: ModuleLike | skorch.NeuralNet | Pipeline | None = None,
    replace: Replaced | None = None,
    scoring: str | Scorer | None = None,
    rope: float | None = None,
    seed: int = 0,
    jobs: int | None = None,
    epochs: int | str = 25,
    batch_size: int = 128,
    lr: float | None = None,
    optimizer: str = "sgd",
    momentum: float | None = None,
    weight_decay: float = 0.0,
    schedule: str = "none",
    early_stopping: int | None = None,
    hidden: Sequence[int] = (128, 64),
    dropout: float = 0.0,
    device: str = "cpu",
    precision: str = "float32",
    init: str = "torch",
    ledger: LedgerLike | None = None,
    executor: Executor | None = None,
    diagnostics: bool | None = None,
    verbose: int = 0,
) -> Comparison:
    """Train a network with each activation on the same folds and seeds, and judge every pair.

    Runs are paired: every activation starts from the same weights and gets the same batches. ``jobs`` does
    not change the result. With one seed, the folds are scikit-learn's unshuffled folds. With several seeds,
    the first and the second share a shuffle of the samples, the third and the fourth the next, and so on.

    Args:
        activations: A list of specs such as ``"relu"`` or ``"leaky_relu(negative_slope=0.2)"``; modules;
            classes of modules; functions; ``autograd.Function`` classes; definitions; or results of
            :func:`actlab.formula`. A dictionary sets the names in the tables. Otherwise the name of an
            activation is its spec, or the name of its class or function, with arguments or a number added if
            two names are equal. Every run starts from a copy of the module in its current state, with the
            values of its parameters and buffers. The module itself does not change.
        data: A dataset, a DataFrame, arrays or tensors as ``(X, y)``, a map-style PyTorch dataset, a file, or
            a name, as for :func:`~actlab.load_data`.
        target: For tables: the name of the target column, or a list of names for a regression or several
            labels.
        drop: For tables: a column or a list of columns to exclude from the features.
        regression: For data other than named datasets: whether the targets are numbers, not classes.
        scale: ``"columns"``, ``"common"`` or ``"none"``, as for :func:`~actlab.load_data`.
        test: A fixed test set instead of folds, as for :func:`~actlab.load_data`. All models are trained on
            samples of ``data`` and scored on the test set.
        groups: The group of each sample, or its column, as for :func:`~actlab.load_data`.
        weights: The weight of each sample, or its column, as for :func:`~actlab.load_data`. Training and
            validation losses, accuracies and the test score are weighted.
        folds: Number of folds (default: 3). More folds can detect smaller differences.
        split: How samples are split into folds: ``"stratified"`` by class (default for classes), ``"random"``
            (default for a regression or several labels), ``"group"`` so that all samples of a group are in
            one fold (default for data with groups), or ``"time"`` to test on samples that come after the
            training samples. With groups or over time, validation samples are held out in the same way.
        seeds: Number of seeds; each seed trains all folds (default: 1, or 3 with a fixed test set).
        until_decided: Whether to add seeds in rounds, up to 32, for activations in an undecided pair; see
            :class:`actlab.stats.SequentialTest`.
        budget: Limit of ``until_decided``: a number of runs, or minutes such as ``"20m"``.
        tune: ``"auto"`` gives every activation its own learning rate and initialization: each run tries five
            rates around the optimizer's usual one, each with ``"torch"`` and ``"matched"`` initial weights,
            for a twelfth of the epochs; the two best candidates are trained to the end. This takes about four
            times as long. A dictionary such as ``{"lr": [0.003, 0.01, 0.03]}`` trains each run with every
            combination of any parameters of the skorch model, such as ``module__width`` for an argument of
            the module, and ``init``. In both cases, the settings as given are trained too, the settings with
            the best validation score are scored on the test samples, and validation samples are part of the
            training samples. None trains only the settings as given.
        module: The network: a module, its class, a function that returns it, ``"package.module:Net"``, or a
            skorch model, whose own epochs, batch size, learning rate and other settings apply. A scikit-learn
            ``Pipeline`` that ends in a skorch model fits its transformers on the training samples of each
            fold; they replace the scaling of columns. A network with an argument such as ``activation`` or
            ``act_layer`` receives a module, or a class if it calls the argument. In any other network,
            :func:`actlab.swap` replaces the activation. Arguments such as ``num_features``, ``in_features``
            and ``input_dim``, or ``num_classes``, ``out_features`` and ``output_dim``, receive the numbers of
            features and outputs. Lazy layers are initialized with two samples.
        replace: The activation that is replaced in the module, as in :func:`actlab.swap` (default: the only
            kind of activation in the module).
        scoring: A scikit-learn scorer or its name (default: accuracy, or R^2 for a regression). For
            several labels per sample the default is the accuracy over labels, which is 1 - Hamming loss, and
            ``"accuracy"`` is the share of samples with every label correct. The model predicts labels (n, k).
        rope: Half the width of the region of practical equivalence, in units of the score. Default: 0.001
            for scores from 0 to 1, or the share of one test sample if the score is an accuracy and this share
            is larger; for other scores, 1 % of the median score.
        seed: The first seed.
        jobs: Number of worker processes (default: chosen automatically).
        epochs: Passes over the training samples; ``"auto"`` for at most 200, with ``early_stopping=10``
            unless it is set.
        batch_size: Samples per step.
        lr: Learning rate (default: the optimizer's usual rate, 0.01 for SGD and 0.001 for the others).
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"rmsprop"``.
        momentum: Momentum of SGD (default: 0.95) or RMSprop (default: 0).
        weight_decay: Weight decay of the optimizer.
        schedule: Learning rate schedule over the epochs: ``"none"``, ``"cosine"`` or ``"onecycle"``.
        early_stopping: Epochs without a better validation loss after which a run stops and restores the
            weights of the best epoch; None for no early stopping.
        hidden: Widths of the hidden layers of the default network.
        dropout: Probability that dropout zeroes an output of a hidden layer of the default network.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or ``"bf16"`` for matrix products with bfloat16 operands.
        init: Initial weights: ``"torch"`` for the ones that the module draws, or ``"matched"`` to scale them
            for the activation with :func:`actlab.init_`.
        ledger: A :class:`~actlab.ledger.Ledger` or its file. Runs in the ledger are not trained again, and
            finished runs are recorded in it.
        executor: Any :class:`concurrent.futures.Executor` to train in; ``jobs`` is then ignored.
        diagnostics: True to collect :attr:`Comparison.diagnostics` after every epoch, False for never
            (default: after as many epochs as fit into 5 % of the training time).
        verbose: 0 for no output; 1 for progress on standard error; 2 for more detail.

    Returns:
        The tables and settings of the comparison.

    Raises:
        UsageError: Some arguments are wrong; the message names all of them.

    Examples:
        >>> comparison = compare(["relu", "tanh"], "digits", epochs=2)
        >>> comparison.ranking.columns.to_list()
        ['rank', 'activation', 'mean', 'std', 'runs', 'status', 'fold_1', 'fold_2', 'fold_3']
        >>> comparison.verdicts[["a", "b"]].to_numpy().tolist()
        [['relu', 'tanh']]
    """
    config = ComparisonConfig(
        activations=activations,
        dataset=load_data(
            data,
            target=target,
            drop=drop,
            regression=regression,
            scale=scale,
            test=test,
            groups=groups,
            weights=weights,
        ),
        settings=TrainSettings(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            optimizer=optimizer,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            early_stopping=early_stopping,
            seed=seed,
            device=device,
            hidden=hidden,
            dropout=dropout,
            precision=precision,
            init=init,
        ),
        folds=folds,
        split=split,
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
        Interrupted: Ctrl-C was pressed; without a ledger, after some runs had ended.
    """
    config, about = plan.config, describe_plan(plan)
    with Runner(plan, ledger, executor, verbose) as runner:
        try:
            if config.until_decided:
                test, region = _train_until_decided(plan, runner, about, verbose)
            else:
                train_planned(plan, runner, config.names, range(config.num_seeds), about)
                test, region = None, _choose_region(plan, runner.runs)
            comparison = _make_comparison(plan, runner, region, test, about)
            runner.end()
            return comparison
        except KeyboardInterrupt as interruption:
            if not runner.runs and ledger is None:
                raise
            best = select_best(runner.runs, config.names, plan.candidates)
            results = make_results_table(best, plan) if best else pd.DataFrame()
            raise Interrupted(results, make_history_table(best), runner.describe_progress()) from interruption


def _train_until_decided(
    plan: ComparisonPlan, runner: Runner, about: Mapping[str, Any], verbose: int
) -> tuple[SequentialTest, tuple[float, str]]:
    """Train rounds of seeds for undecided pairs; return the test and the region of equivalence."""
    start, config = time.monotonic(), plan.config
    test, budget = SequentialTest(config.names), parse_budget(config.budget)
    region, counted = (math.nan, ""), 0
    while not test.stop_reason:
        more = plan.count_runs(len(test.remaining), test.next_seeds - test.seeds)
        if reason := budget.explain_refusal(counted, more, time.monotonic() - start):
            test.stop(reason)
            break
        counted += more
        seeds = range(test.seeds, test.next_seeds)
        train_planned(plan, runner, test.remaining, seeds, about, f"round {test.analyses + 1}")
        best = select_best(runner.runs, config.names, plan.candidates)
        if test.analyses == 0:
            # The first round has all activations. Every round has the same region.
            region = _choose_region(plan, best)
        test.record_analysis(judge_pairs(best, plan, region[0], test.level), count_failures(best))
        if verbose:
            pairs = len(test.verdicts)
            undecided = f"{pairs - len(test.decided)} of {pairs} pairs are undecided"
            print(f"actlab: after {test.seeds} seeds, {undecided}", file=sys.stderr)
    return test, region


def _choose_region(plan: ComparisonPlan, runs: Sequence[Finished]) -> tuple[float, str]:
    """Return half the width of the region of practical equivalence, and a description of it."""
    if plan.config.rope is not None:
        return plan.config.rope, "as given"
    best = select_best(runs, plan.config.names, plan.candidates)
    return plan.scoring.choose_region([run.score for run in best], plan.count_test_samples())


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
    about = {
        **about,
        "trained": runner.planned,
        "region": region[0],
        "region_is": region[1],
        "points": plan.scoring.are_shares([run.score for run in best]),
        "level": test.level if test else LEVEL,
        "seeds": test.seeds if test else config.num_seeds,
    }
    as_given = None
    if len(plan.candidates) > 1:
        # A fixed level for every analysis holds whenever the test ends, so it holds for these verdicts too.
        given = select_given(runner.runs, config.names, plan.candidates[0])
        pairs = judge_pairs(given, plan, region[0], about["level"])
        untuned = {**about, "tuned": [], "tune": None, "trained": len(given)}
        as_given = _judge_runs(plan, given, pairs, untuned)
    pairs = test.verdicts if test else judge_pairs(best, plan, region[0], LEVEL)
    dropped = test.dropped if test else {}
    if test:
        summary = {"interim_analyses": test.analyses, "stop_reason": test.stop_reason, "dropped": dropped}
        about["sequential_test"] = summary
    alive = [one for one in config.resolved if one.name not in runner.died]
    return dataclasses.replace(
        _judge_runs(plan, best, pairs, about, dropped),
        diagnostics=make_diagnostics_table(best),
        parameters=make_parameters_table(best),
        tuning=make_tuning_table(runner.runs, best, plan),
        curves=sample_curves(alive),
        costs=measure_costs(alive, config.settings.device),
        as_given=as_given,
    )


def _judge_runs(
    plan: ComparisonPlan,
    runs: Sequence[Finished],
    pairs: Mapping[Pair, Verdict | None],
    about: Mapping[str, Any],
    dropped: Mapping[str, str] = MappingProxyType({}),
) -> Comparison:
    """Return the tables on runs and verdicts."""
    results = make_results_table(runs, plan)
    if results["chance"].any():
        level = ChanceTest(plan.scoring).compute_level(list(compress(runs, results["chance"])))
        about = about if math.isnan(level) else {**about, "chance_level": level}
    failures = count_failures(runs)
    verdicts = make_verdict_table(pairs, about["level"], failures, dropped)
    ranking = make_ranking_table(results, verdicts, about["seeds"])
    return Comparison(results, make_history_table(runs), verdicts, ranking, about=about)
