"""Compare activations on several tasks, and judge them over all tasks."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from actlab.comparison.comparison import Comparison, run_comparison
from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.errors import UsageError, format_error, join_names, summarize_error
from actlab.files import LEDGER, create_output_folder
from actlab.judging import Judgement, judge
from actlab.judging.verdict_tables import describe_each
from actlab.ledger.session import open_session
from actlab.report.tables import format_table, write_csv
from actlab.report.wrapping import wrap_sentences
from actlab.spec import ActivationLike, ResolvedActivation, resolve_all
from actlab.tasks.registry import list_tasks, load_task
from actlab.tasks.task import Task

ALL = "all"
_TEST = (
    "Scores are scaled: 0 is the best constant prediction, 1 a perfect one. Pairs: Wilcoxon's signed-rank "
    "test over {}, Holm's correction."
)
_TABLES = ("runs", "means", "summary", "across")
OPTIONS = frozenset(  # of ComparisonConfig and TrainSettings, which a task leaves open
    "folds split seeds until_decided budget tune jobs diagnostics seed device precision".split()
)
_COLUMNS = ["task", "activation", "split", "fold", "seed", "score", "normalized", "as_given", "failure"]


@dataclass(frozen=True)
class TaskPlan:
    """A task with its planned runs.

    Attributes:
        task: The task.
        plan: The runs.
        spec: What selects the task, such as ``"my_tasks.py:WAVES"``.
        excluded: Activations that cannot be used for the task, and why.
    """

    task: Task
    plan: ComparisonPlan
    spec: str = ""
    excluded: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def score_range(self) -> tuple[float, float]:
        """The score of the best constant prediction, and the score of a perfect one."""
        return self.plan.compute_score_range()


@dataclass(frozen=True, repr=False)
class TaskComparison:
    """Activations compared on several tasks.

    Attributes:
        comparisons: The comparison on each task, by its name.
        results: One row per run: ``task``, ``activation``, ``split``, ``fold``, ``seed``, ``score``,
            ``normalized`` (the score, scaled so that the best constant prediction has 0 and a perfect one has
            1; lower scores and failures are 0), ``as_given`` (the score with the settings as given; NaN
            without tuning), ``failure``, and the tuned values.
        summary: One row per activation, best first: ``mean_rank`` over tasks; ``iqm``, the interquartile mean
            of its normalized scores, with its 95 % interval from ``iqm_low`` to ``iqm_high``; ``first``, the
            number of tasks on which it has a rank and no activation is significantly better; ``best_on`` and
            ``worst_on``, the tasks with the highest and with the lowest mean; ``lost``, the share of
            runs that failed or are at chance level; and ``nanoseconds`` per element, forward and backward.
        skipped: Tasks that were not compared, and why.
        excluded: One row per ``task`` and ``activation`` that its model cannot use, with the ``reason``.
        judgement: The tests over tasks, from the normalized scores; None for one task or one activation.
    """

    comparisons: Mapping[str, Comparison]
    results: pd.DataFrame
    summary: pd.DataFrame
    skipped: Mapping[str, str]
    excluded: pd.DataFrame
    judgement: Judgement | None

    def __repr__(self) -> str:
        return "\n".join([self.format_summary(), "", *wrap_sentences(self.sentences())])

    def format_summary(self) -> str:
        """Return :attr:`summary` as text, without the columns that do not fit into 80 characters."""
        return format_table(self.summary.drop(columns=["iqm_low", "iqm_high"], errors="ignore"))

    def sentences(self) -> list[str]:
        """Return the result in sentences: first for each task, then over all tasks."""
        verdicts = {task: each.verdicts for task, each in self.comparisons.items()}
        alone = describe_each({task: pairs for task, pairs in verdicts.items() if len(pairs)})
        alone += _describe_unranked({task: each.ranking for task, each in self.comparisons.items()})
        if self.judgement is not None:
            return [*alone, *self.judgement.sentences()]
        return alone + _describe_omitted(self.excluded, self.skipped, self.results)

    @property
    def means(self) -> pd.DataFrame:
        """The mean scores: one row per task, one column per activation; NaN for a failure."""
        return (
            pd.DataFrame(
                {
                    task: comparison.ranking.set_index("activation")["mean"]
                    for task, comparison in self.comparisons.items()
                }
            )
            .T.reindex(columns=self.results["activation"].unique())
            .rename_axis(index="task", columns=None)
            .reset_index()
        )

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write the tables into a folder, and return the files.

        ``runs.csv`` has :attr:`results`, ``means.csv`` the mean scores, ``summary.csv`` :attr:`summary`, and
        ``across.csv`` the verdicts over tasks.
        """
        folder = create_output_folder(folder)
        tables = {"runs": self.results, "means": self.means, "summary": self.summary}
        if self.judgement is not None:
            tables["across"] = self.judgement.verdicts
        for name, table in tables.items():
            write_csv(table, folder / f"{name}.csv")
        return [folder / f"{name}.csv" for name in tables]


def _describe_unranked(rankings: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return sentences on the activations that failed or are at chance level on some tasks."""
    table = pd.concat(rankings, names=["task"]).reset_index("task")
    groups = table[table["rank"].isna()].groupby(["activation", "status"], sort=False)
    return [
        f"{name} has no rank on {join_names(rows['task'].to_list())}: {status}."
        for (name, status), rows in groups
    ]


def _describe_omitted(excluded: pd.DataFrame, skipped: Mapping[str, str], results: pd.DataFrame) -> list[str]:
    """Return sentences on the activations and tasks that were not compared."""
    scaled = results.groupby("task", sort=False)["normalized"].count() > 0
    return [
        *(
            f"{name} was not compared on {', '.join(rows['task'])}: {reason}."
            for (name, reason), rows in excluded.groupby(["activation", "reason"], sort=False)
        ),
        *(f"{name} was skipped: {reason}." for name, reason in skipped.items()),
        *(
            f"{name} is not in the results over all: its scorer cannot score a constant prediction."
            for name in scaled.index[~scaled]
        ),
    ]


def plan_tasks(
    activations: Iterable[ActivationLike] | Mapping[str, ActivationLike],
    tasks: str | Task | Iterable[str | Task] = ALL,
    *,
    data_dir: str | Path | None = None,
    **options: Any,
) -> tuple[list[TaskPlan], dict[str, str]]:
    """Plan the runs on several tasks.

    Args:
        activations: As for :func:`actlab.compare`.
        tasks: As for :func:`compare_tasks`.
        data_dir: As for :func:`compare_tasks`.
        **options: As for :func:`compare_tasks`.

    Returns:
        The plans; and the tasks that are skipped, with the reasons.

    Raises:
        UsageError: There is no such task, no task can be compared, or an activation or option is wrong.
    """
    if wrong := sorted(options.keys() - OPTIONS):
        raise UsageError(
            f"{wrong[0]} is not an option of compare_tasks: a task has its own data, model and settings"
        )
    resolved = resolve_all(activations)
    plans: list[TaskPlan] = []
    skipped: dict[str, str] = {}
    for spec, task in _list_named_tasks(tasks, skipped):
        try:
            plan = _plan_task(spec, task, resolved, data_dir, options)
            if same := _find_same_files(plan, plans):
                raise UsageError(
                    f"its files are those of {same}; data_dir (--data-dir) needs a folder for each set"
                )
            plans.append(plan)
        except UsageError as error:
            skipped[task.name] = format_error(error)
    if not plans:
        raise UsageError("; ".join(f"task {name}: {reason}" for name, reason in skipped.items()))
    return plans, skipped


def _list_named_tasks(
    tasks: str | Task | Iterable[str | Task], skipped: dict[str, str]
) -> list[tuple[str, Task]]:
    """Return each task with what selects it; add tasks whose file has an error to ``skipped``."""
    named: list[str | Task] = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    found: list[tuple[str, Task]] = []
    for each in named:
        if isinstance(each, Task):
            found.append((each.name, each))
        elif each == ALL:
            found += [(task.name, task) for task in list_tasks()]
        else:
            try:
                found.append((each, load_task(each)))
            except UsageError as error:
                if len(named) == 1 or ":" not in str(each):
                    raise
                skipped[each] = format_error(error)
    names = [task.name for _, task in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"two tasks are called {twice!r}; rename or omit one")
    if not named:
        raise UsageError("tasks is empty; it needs at least one task, or 'all'")
    return found


def choose_folders(plans: Sequence[TaskPlan], out: str | Path) -> list[Path]:
    """Return a folder inside ``out`` for each task, by its name.

    Raises:
        UsageError: Two tasks have the same folder, or a folder has the name of a table.
    """
    names = [re.sub(r"^\.|[^\w.-]", "_", plan.task.name) for plan in plans]
    taken = [*names, *(f"{name}.csv" for name in _TABLES)]
    if twice := next((name for name in names if taken.count(name) > 1), ""):
        raise UsageError(
            f"two folders or tables of the results would be called {twice!r}; rename a task or file"
        )
    return [Path(out) / name for name in names]


def _find_same_files(plan: TaskPlan, plans: Sequence[TaskPlan]) -> str:
    """Return the name of an earlier task with another image set but equal data; empty if there is none."""
    if not plan.task.needs_files:
        return ""
    fingerprint = plan.plan.dataset.fingerprint
    others = [one for one in plans if one.task.needs_files and one.task.data != plan.task.data]
    return next((one.task.name for one in others if one.plan.dataset.fingerprint == fingerprint), "")


def _plan_task(
    spec: str,
    task: Task,
    activations: Sequence[ResolvedActivation],
    data_dir: Any,
    options: Mapping[str, Any],
) -> TaskPlan:
    options = dict(options)
    training = {name: options.pop(name) for name in ("seed", "device", "precision") if name in options}
    settings = dataclasses.replace(task.settings, **training)
    options = {"settings": settings, "module": task.module, "scoring": task.scoring, **options}
    dataset = task.load(data_dir)

    def plan(some: Sequence[ResolvedActivation]) -> ComparisonPlan:
        named = {one.name: one for one in some}
        return ComparisonPlan(ComparisonConfig(activations=named, dataset=dataset, **options))

    try:
        made = plan(activations)
        problems = {one.name: _find_training_problem(made, one.name) for one in activations}
    except UsageError as error:  # plan each by itself
        problems = {}
        for one in activations:
            try:
                problems[one.name] = _find_training_problem(plan([one]), one.name)
            except UsageError as problem:
                problems[one.name] = str(problem)
        if not any(problems.values()):
            raise error
    usable = [one for one in activations if not problems[one.name]]
    if not usable:
        raise UsageError(next(iter(problems.values())))
    excluded = {name: problem for name, problem in problems.items() if problem}
    return TaskPlan(task, plan(usable) if excluded else made, spec, excluded)


def _find_training_problem(plan: ComparisonPlan, name: str) -> str:
    """Return why a network with an activation cannot be trained, such as a derivative that it lacks."""
    run = plan.run(name, 0, 0, 0).run
    if run is None:  # only skorch can train it
        return ""
    try:
        with torch.random.fork_rng(devices=[]):
            run.build()(torch.from_numpy(plan.dataset.X[:2])).sum().backward()
    except (Exception, SystemExit) as error:  # raised by the user's code
        return f"a training step raised {summarize_error(error)}"
    return ""


def compare_tasks(
    activations: Iterable[ActivationLike] | Mapping[str, ActivationLike],
    tasks: str | Task | Iterable[str | Task] = ALL,
    *,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    executor: Executor | None = None,
    verbose: int = 0,
    **options: Any,
) -> TaskComparison:
    """Compare activations on several tasks, and judge them over all tasks.

    By default, the learning rate and the initialization of every run are tuned, as in :func:`actlab.compare`.

    Args:
        activations: As for :func:`actlab.compare`.
        tasks: Names of built-in tasks, ``"file.py:NAME"`` or :class:`Task` objects; ``"all"`` for all
            built-in tasks.
        out: A folder for the ledgers and tables. With it, a later call trains only the runs that are missing.
        data_dir: The folder with the files of image sets such as MNIST. Tasks without their data are skipped.
        executor: As for :func:`actlab.compare`.
        verbose: As for :func:`actlab.compare`.
        **options: ``folds``, ``split``, ``seeds``, ``until_decided``, ``budget``, ``tune``, ``jobs``,
            ``diagnostics``, ``seed``, ``device`` and ``precision``, as for :func:`actlab.compare`.

    Returns:
        The comparisons, and the results over all tasks.

    Raises:
        UsageError: An activation, a task or an option is wrong, or no task can be compared.

    Examples:
        >>> result = compare_tasks(["relu", "tanh"], ["iris", "wine"], tune=None)
        >>> result.results.groupby("task").size().to_dict()
        {'iris': 6, 'wine': 6}
    """
    plans, skipped = plan_tasks(activations, tasks, data_dir=data_dir, **options)
    folders: list[Path | None] = [None] * len(plans) if out is None else [*choose_folders(plans, out)]
    for made in filter(None, folders):
        create_output_folder(made)
    comparisons = []
    for plan, folder in zip(iterate_tasks(plans, folders, verbose), folders, strict=True):
        ledger = folder and folder / LEDGER
        comparisons.append(run_comparison(plan.plan, ledger=ledger, executor=executor, verbose=verbose))
        if folder:
            comparisons[-1].to_csv(folder)
    names = list(dict.fromkeys(name for plan in plans for name in plan.plan.config.names))
    command = f"actlab.compare_tasks({names}, {[plan.spec for plan in plans]})"
    result = summarize_tasks(plans, comparisons, skipped, command)
    if out is not None:
        result.to_csv(out)
    return result


def iterate_tasks(
    plans: Sequence[TaskPlan], folders: Sequence[Path | None], verbose: int
) -> Iterator[TaskPlan]:
    """Yield the plans; before each, print its number and the estimated time left."""
    costs = [estimate_cost(*each) for each in zip(plans, folders, strict=True)] if verbose else []
    spent = done = 0.0  # by the tasks that were not in the ledger
    for index, plan in enumerate(plans):
        if verbose:
            seconds = spent * sum(costs[index:]) / done if done else 0.0
            left = f"; about {_format_duration(seconds)} left" if seconds else ""
            print(f"actlab: task {index + 1} of {len(plans)}: {plan.task.name}{left}", file=sys.stderr)
        start = time.monotonic()
        yield plan
        if verbose and costs[index]:
            spent, done = spent + time.monotonic() - start, done + costs[index]


def estimate_cost(task: TaskPlan, folder: Path | None) -> float:
    """Return the estimated work of a task, in seconds on one core; 0 if the ledger has its runs."""
    plan, missing = task.plan, 1.0
    names, seeds = plan.config.names, plan.config.num_seeds
    if folder is not None and (folder / LEDGER).exists():
        each = itertools.product(names, range(seeds), range(plan.config.num_folds))
        runs = [run for labels in each if (run := plan.run(*labels, 0).run) is not None]
        with open_session(folder / LEDGER, runs, plan.dataset.fingerprint) as session:
            if session and runs:
                missing -= session.count_finished() / len(runs)
    return missing * task.task.seconds * plan.count_runs(len(names), seeds)


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def summarize_tasks(
    plans: Sequence[TaskPlan],
    comparisons: Sequence[Comparison],
    skipped: Mapping[str, str],
    command: str,
    over: str = "tasks",
) -> TaskComparison:
    """Return the results over all tasks.

    Args:
        plans: The plans.
        comparisons: What :func:`~actlab.comparison.comparison.run_comparison` returned for each.
        skipped: Tasks that were not compared, and why.
        command: The command or call that reproduces the results.
        over: What sentences call the tasks.
    """
    named = {plan.task.name: comparison for plan, comparison in zip(plans, comparisons, strict=True)}
    results = pd.concat(
        [_list_results(plan, one) for plan, one in zip(plans, comparisons, strict=True)], ignore_index=True
    )
    omitted = [(plan.task.name, name, reason) for plan in plans for name, reason in plan.excluded.items()]
    excluded = pd.DataFrame(omitted, columns=["task", "activation", "reason"])
    judgement = None
    columns = ["task", "activation", "split", "fold", "seed", "normalized"]
    known = results.dropna(subset="normalized")[columns]
    if known["task"].nunique() > 1 and results["activation"].nunique() > 1:
        for task, name in [(task, name) for task, name, _ in omitted if name in set(known["activation"])]:
            runs = known[known["task"] == task].drop_duplicates(["split", "fold", "seed"])
            known = pd.concat([known, runs.assign(activation=name, normalized=0.0)], ignore_index=True)
        judgement = judge(known, dataset="task", method="activation", score="normalized", analysis="demsar")
        sentences = (_TEST.format(over), *_describe_omitted(excluded, skipped, results))
        judgement = dataclasses.replace(
            judgement,
            design=dataclasses.replace(judgement.design, sentences=sentences),
            datasets=judgement.datasets and dataclasses.replace(judgement.datasets, over=over),
            about={
                **judgement.about,
                "subject": "activation",
                "data": f"{len(plans)} {over}",
                "metric": "scaled score",
                "command": command,
            },
        )
    return TaskComparison(
        named,
        results,
        _summarize(results, named, judgement),
        dict(skipped),
        excluded,
        judgement,
    )


def _list_results(plan: TaskPlan, comparison: Comparison) -> pd.DataFrame:
    """Return the rows of :attr:`TaskComparison.results` of a task."""
    table = comparison.results.assign(task=plan.task.name, as_given=math.nan)
    chance, perfect = plan.score_range
    scaled = (table["score"] - chance) / (perfect - chance)
    table["normalized"] = scaled.clip(0, 1) if math.isnan(chance) else scaled.clip(0, 1).fillna(0.0)
    if comparison.as_given is not None:
        table["as_given"] = comparison.as_given.results["score"].to_numpy()
    tuned = {name: None for values in comparison.about["tuned"] for name in values}
    return table[[*_COLUMNS, "chance", *tuned]]


def _summarize(
    results: pd.DataFrame, comparisons: Mapping[str, Comparison], judgement: Judgement | None
) -> pd.DataFrame:
    """Return the rows of :attr:`TaskComparison.summary`."""
    names = list(dict.fromkeys(results["activation"]))
    best: dict[str, list[str]] = {name: [] for name in names}
    worst: dict[str, list[str]] = {name: [] for name in names}
    first: dict[str, int] = dict.fromkeys(names, 0)
    costs: dict[str, float] = {}
    for task, comparison in comparisons.items():
        ranking = comparison.ranking
        means = ranking.set_index("activation")["mean"]
        for name in ranking[ranking["rank"] == 1]["activation"]:
            first[name] += 1
        high, low = means.max(), math.nan if means.isna().any() else means.min()
        for name, mean in means.items():
            if mean == high:
                best[str(name)].append(task)
            elif mean == low or math.isnan(mean):
                worst[str(name)].append(task)
        if not comparison.costs.empty:
            for name, nanoseconds in comparison.costs[["activation", "nanoseconds"]].to_numpy():
                costs.setdefault(name, nanoseconds)
    lost = (results["score"].isna() | results["chance"]).groupby(results["activation"]).mean()
    table = pd.DataFrame(
        {
            "activation": names,
            "first": [first[name] for name in names],
            "best_on": [", ".join(best[name]) for name in names],
            "worst_on": [", ".join(worst[name]) for name in names],
            "lost": [float(lost[name]) for name in names],
            "nanoseconds": [costs.get(name, math.nan) for name in names],
        }
    )
    if judgement is None:
        return table
    ranks = judgement.ranking[["method", "mean_rank", "iqm", "iqm_low", "iqm_high"]]
    ranks = ranks.rename(columns={"method": "activation"})
    return ranks.merge(table, on="activation").sort_values("mean_rank", kind="stable", ignore_index=True)
