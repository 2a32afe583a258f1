"""``actlab compare``: one dataset or task, or several."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.cli.options import (
    NOT_REPRODUCED,
    SOURCES,
    Parser,
    add_data_options,
    add_output_options,
    add_training_options,
    format_command,
    load_dataset,
    make_train_settings,
)
from actlab.cli.output import (
    FAILURE,
    REPORT,
    SUCCESS,
    check_figures,
    print_result,
    write_pages,
)
from actlab.errors import UsageError, escape_unprintable
from actlab.files import AS_GIVEN, LEDGER
from actlab.report.wrapping import wrap_sentences

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from actlab.comparison.comparison import Comparison
    from actlab.comparison.config import ComparisonConfig
    from actlab.comparison.plan import ComparisonPlan
    from actlab.data.dataset import Dataset
    from actlab.judging import Judgement
    from actlab.tasks.task_comparison import TaskPlan

SUMMARY = "train with each activation and judge which is better"
EXAMPLES = (
    "actlab compare relu mish --until-decided --budget 20m",
    "actlab compare relu elu --tune lr=0.003,0.01,0.03 --module my_nets.py:Net",
    "actlab compare relu gelu tanh --task all --seeds 4",
)

_MAX_FAILURES = 5  # in the message that no activation has a result
_RANKING = ["rank", "activation", "mean", "as_given", "std", "runs"]


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    activation = 'activation, such as relu, "elu(alpha=0.5)" or "formula:x*tanh(x)"'
    parser.add_argument("activations", nargs="+", metavar="NAME", help=activation)
    data = f"{SOURCES} (default: digits); repeat it for several datasets"
    add = add_data_options(parser, action="append", help=data)
    test = "fixed test set: a file with the same columns, or t10k for the test images of a named set"
    add("--test", metavar="FILE", help=test)
    add("--groups", metavar="COLUMN", help="column with the group of each sample; groups are never split")
    add("--weights", metavar="COLUMN", help="column with the weight of each sample in losses and scores")
    task = (
        "built-in task (see actlab tasks), all, or file.py:NAME; repeat it for several tasks. A task has its "
    )
    task += "own data, model and training settings"
    add("--task", action="append", metavar="NAME", help=task)
    add = parser.add_argument_group("model").add_argument
    add("--module", metavar="M:NET", help="your network: package.module:Net or file.py:Net(width=64)")
    add("--replace", metavar="NAME", help="activation of the network to replace, if it has several kinds")
    add = add_training_options(parser)
    tune = "values to try, such as lr=0.003,0.01 (default: five learning rates around the usual one, with "
    tune += "torch and matched initial weights)"
    add("--tune", action="append", default=[], metavar="NAME=A,B", help=tune)
    add("--no-tune", action="store_true", help="train only with the settings as given, without tuning")
    add = parser.add_argument_group("statistics").add_argument
    folds = "number of cross-validation folds (default: 3); more folds can detect smaller differences"
    add("--folds", type=int, metavar="N", help=folds)
    split = "folds: stratified, random, group, or time for samples in chronological order"
    split += " (default: stratified for classes, random for a regression and for several labels, "
    split += "group with --groups)"
    add("--split", choices=("stratified", "random", "group", "time"), metavar="S", help=split)
    add("--seeds", type=int, metavar="N", help="number of seeds per fold (default: 1; 3 with --test)")
    add("--until-decided", action="store_true", help="add seeds, up to 32, until every pair is decided")
    add("--budget", metavar="N|Nm", help="limit of --until-decided: N runs, or N minutes, as in 20m")
    add(
        "--scoring",
        metavar="NAME",
        help="scikit-learn scorer (default: accuracy, averaged over several labels; r2 for a regression)",
    )
    rope = "differences up to X are practically equivalent (default: 0.001 for scores from 0 to 1, or for "
    rope += "accuracies the share of one test sample if that is larger; for other scores 1 %% of the median)"
    add("--rope", type=float, metavar="X", help=rope)
    add = parser.add_argument_group("execution").add_argument
    add("--jobs", type=int, metavar="N", help="worker processes (default: chosen automatically)")
    add("--scheduler", metavar="ADDRESS", help="train on a Dask cluster: tcp://HOST:PORT")
    add = add_output_options(parser, "out/compare")
    add("--mlflow", metavar="URI", help="log to MLflow: sqlite:///runs.db or http://HOST:PORT")


@dataclass(frozen=True)
class _Outcome:
    """The comparison on one dataset or task, the files that were written, and the message from MLflow."""

    name: str
    comparison: Comparison
    files: list[Path]
    mlflow: str

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        from actlab.report.tables import to_json_rows

        def list_tables(comparison: Comparison) -> dict[str, Any]:
            return {name: to_json_rows(getattr(comparison, name)) for name in ("ranking", "verdicts")}

        tables = list_tables(self.comparison)
        if self.comparison.as_given is not None:
            tables["as_given"] = list_tables(self.comparison.as_given)
        logged = {"mlflow": self.mlflow} if self.mlflow else {}
        return {**tables, "insights": self.comparison.sentences(), **logged}

    def list_files(self) -> list[Path]:
        """Return the files to print, with the folder of the settings as given instead of its files."""
        names = [file.parent if file.parent.name == AS_GIVEN else file for file in self.files]
        return list(dict.fromkeys(names))

    def describe(self) -> list[str]:
        """Return lines: the ranking, with the scores of folds or seeds that fit, and sentences."""
        from actlab.report.tables import format_table

        ranking = self.comparison.ranking.copy()
        if self.comparison.as_given is not None:
            means = self.comparison.as_given.ranking.set_index("activation")["mean"]
            ranking.insert(3, "as_given", ranking["activation"].map(means))
        parts = [str(name) for name in ranking if str(name).startswith(("fold_", "seed_"))]
        logged = ["", *wrap_sentences([self.mlflow])] if self.mlflow else []
        table = format_table(ranking[[name for name in ranking if name in (*_RANKING, *parts)]])
        return [table, "", *wrap_sentences(self.comparison.sentences()), *logged]


def run(arguments: argparse.Namespace) -> int:
    """Compare activations."""
    try:
        return _run(arguments)
    except KeyboardInterrupt as interruption:
        if interruption.args:
            raise
        raise KeyboardInterrupt("; run the comparison again to resume") from interruption


def _run(arguments: argparse.Namespace) -> int:
    from actlab.files import create_output_folder
    from actlab.tasks.task_comparison import choose_folders, iterate_tasks

    plans, skipped = _plan_tasks(arguments) if arguments.task else (_plan_datasets(arguments), {})
    for name, reason in skipped.items():
        print(f"actlab: note: task {escape_unprintable(name)} is skipped: {reason}", file=sys.stderr)
    several = len(plans) > 1
    folders = choose_folders(plans, arguments.out) if several else [Path(arguments.out)]
    for folder in folders:
        create_output_folder(folder)
    check_figures(arguments)
    if arguments.mlflow is not None:
        from actlab.integrations.mlflow import check_store

        check_store(arguments.mlflow)
    with _connect(arguments.scheduler) as executor:
        shown = several and not arguments.quiet
        outcomes = [
            _compare(arguments, plan, folder, executor)
            for plan, folder in zip(iterate_tasks(plans, folders, shown), folders, strict=True)
        ]
    if several:
        _print_several(arguments, plans, outcomes, skipped)
    else:
        (outcome,) = outcomes
        about = {"data": plans[0].task.name, "fingerprint": plans[0].plan.dataset.fingerprint}
        print_result(arguments, {**about, **outcome.to_json()}, outcome.describe(), outcome.list_files())
    return max(_choose_status(arguments, outcome) for outcome in outcomes)


def _plan_tasks(arguments: argparse.Namespace) -> tuple[list[TaskPlan], dict[str, str]]:
    """Return the plans of the tasks, and the tasks that are skipped with the reasons."""
    from actlab.tasks.task_comparison import OPTIONS, plan_tasks

    usual = arguments.parser.parse_args(["relu"])
    accepted = {*OPTIONS, "no_tune", "data_dir", *NOT_REPRODUCED} - {"data"}
    for name, value in vars(arguments).items():
        if name not in accepted and value != getattr(usual, name):
            option = f"--{name.replace('_', '-')}"
            advice = "omit it, or define a task of your own"
            raise UsageError(f"{option} contradicts --task {arguments.task[0]}, which sets it; {advice}")
    options = {**{name: getattr(arguments, name) for name in OPTIONS}, "tune": _choose_tune(arguments)}
    return plan_tasks(arguments.activations, arguments.task, data_dir=arguments.data_dir, **options)


def _plan_datasets(arguments: argparse.Namespace) -> list[TaskPlan]:
    """Return the plan of each dataset, as a task."""
    from actlab.comparison.plan import ComparisonPlan
    from actlab.tasks.task import Task
    from actlab.tasks.task_comparison import TaskPlan

    sources = arguments.data or ["digits"]
    datasets = _load_datasets(arguments, sources)
    if len({dataset.fingerprint for dataset in datasets}) < len(datasets):
        raise UsageError("--data names the same data twice; each dataset must be different")
    return [
        TaskPlan(
            Task(name=dataset.name, description="", data=source, seconds=len(dataset.y)),
            ComparisonPlan(_make_config(arguments, dataset)),
        )
        for source, dataset in zip(sources, datasets, strict=True)
    ]


def _make_config(arguments: argparse.Namespace, dataset: Dataset) -> ComparisonConfig:
    from actlab.comparison.config import ComparisonConfig

    names = "activations folds split seeds until_decided budget module replace scoring rope jobs diagnostics"
    options = {name: getattr(arguments, name) for name in names.split()}
    settings, tune = make_train_settings(arguments), _choose_tune(arguments)
    return ComparisonConfig(dataset=dataset, settings=settings, tune=tune, **options)


def _choose_tune(arguments: argparse.Namespace) -> str | dict[str, list[Any]] | None:
    if arguments.no_tune and arguments.tune:
        raise UsageError(f"--no-tune contradicts --tune {arguments.tune[0]}; omit one of them")
    return None if arguments.no_tune else _parse_tune(arguments.tune) or "auto"


def _load_datasets(arguments: argparse.Namespace, sources: list[str]) -> list[Dataset]:
    if len(sources) == 1:
        return [load_dataset(arguments, sources[0], ("test", "groups", "weights"))]
    for name in ("test", "groups", "weights"):
        if (value := getattr(arguments, name)) is not None:
            raise UsageError(
                f"--{name} {value!r} needs one dataset, got {len(sources)}; compare each by itself"
            )
    from actlab.data.load import list_accepted_arguments

    # An option for one kind of data need not fit the others.
    return [load_dataset(arguments, source, only=list_accepted_arguments(source)) for source in sources]


def _parse_tune(texts: list[str]) -> dict[str, list[Any]]:
    """Read ``lr=0.003,0.01``: values are literals of Python, or words."""
    tuned: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values or name in tuned:
            wrong = f"repeats {name!r}" if name in tuned else "is not NAME=VALUE,VALUE"
            raise UsageError(f"--tune {text!r} {wrong}; write lr=0.003,0.01,0.03, for example")
        tuned[name] = [_parse_value(value.strip()) for value in values.split(",")]
    return tuned


def _parse_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _compare(
    arguments: argparse.Namespace, planned: TaskPlan, out: Path, executor: Executor | None
) -> _Outcome:
    """Compare on one dataset or task, and write the files."""
    from actlab.comparison.comparison import Interrupted, run_comparison
    from actlab.comparison.tables import make_cv_results
    from actlab.report.tables import to_json_rows, write_csv

    plan, verbose = planned.plan, 0 if arguments.quiet else 1 + arguments.verbose
    try:
        comparison = run_comparison(plan, ledger=out / LEDGER, executor=executor, verbose=verbose)
    except Interrupted as interruption:
        if len(interruption.results):
            write_csv(interruption.results, out / "results.csv")
            write_csv(interruption.history, out / "history.csv")
        raise
    table = make_cv_results(comparison.results)
    write_csv(table, out / "cv_results.csv")
    source = ("--task", planned.spec) if arguments.task else ("--data", str(planned.task.data))
    command = format_command(arguments, "compare", *arguments.activations, *source)
    comparison = dataclasses.replace(comparison, about={**comparison.about, "command": command})
    rows = to_json_rows(table.filter(regex="^param_|_score$"))
    tables, pages = comparison.to_csv(out), write_pages(arguments, comparison, rows, out)
    files = [out / LEDGER, out / "cv_results.csv", *tables, *pages]
    logged = "" if arguments.mlflow is None else _log(arguments, plan, comparison, files[1:])
    return _Outcome(planned.task.name, comparison, files, logged)


def _log(
    arguments: argparse.Namespace, plan: ComparisonPlan, comparison: Comparison, files: list[Path]
) -> str:
    """Log a comparison to MLflow; return its message."""
    from actlab.integrations.mlflow import log_comparison

    about = {name: comparison.about[name] for name in ("data", "folds", "seeds", "metric")}
    return log_comparison(
        comparison.results,
        comparison.history,
        arguments.mlflow,
        name=f"{plan.config.dataset.name}: {', '.join(arguments.activations)}",
        settings={**about, **plan.config.settings.describe()},
        files=files,
        keys=comparison.results["key"].to_list(),
    )


def _print_several(
    arguments: argparse.Namespace,
    plans: list[TaskPlan],
    outcomes: list[_Outcome],
    skipped: dict[str, str],
) -> None:
    """Write and print the results over all datasets or tasks."""
    from actlab.report.tables import format_table, to_json_rows
    from actlab.tasks.task_comparison import summarize_tasks

    what = "tasks" if arguments.task else "datasets"
    option, sources = ("--task", arguments.task) if arguments.task else ("--data", arguments.data)
    words = [word for source in sources for word in (option, str(source))]
    command = format_command(arguments, "compare", *arguments.activations, *words)
    result = summarize_tasks(plans, [one.comparison for one in outcomes], skipped, command, what)
    across: dict[str, Any] = {}
    judgement = result.judgement
    files = result.to_csv(arguments.out)
    if judgement is not None and judgement.datasets is not None:
        files += [*_draw_diagram(judgement.datasets, arguments.out), *_write_page(judgement, arguments.out)]
        tables = {"ranks": judgement.datasets.ranks, "verdicts": judgement.verdicts}
        across = {name: to_json_rows(table) for name, table in tables.items()}
    files += [one.files[0].parent for one in outcomes]
    lines = [line for one in outcomes for line in (f"{one.name}:", *one.describe(), "")]
    if arguments.task:
        lines = [format_table(result.means), ""]
    sentences = result.sentences()
    lines += [f"Over {len(outcomes)} {what}:", result.format_summary(), "", *wrap_sentences(sentences)]
    found: dict[str, Any] = {
        what: {one.name: one.to_json() for one in outcomes},
        "summary": to_json_rows(result.summary),
        "across": {**across, "insights": sentences},
        **({"skipped": skipped} if arguments.task else {}),
    }
    print_result(arguments, found, lines, files)


def _write_page(judgement: Judgement, out: Path) -> list[Path]:
    """Write the page over all datasets. Without Jinja, a note was already printed for single datasets."""
    try:
        return [judgement.report(out / REPORT)]
    except ImportError:
        return []


def _choose_status(arguments: argparse.Namespace, outcome: _Outcome) -> int:
    """Return the exit status, which is a failure if every activation has failed."""
    ranking = outcome.comparison.ranking
    if not ranking["mean"].isna().all():
        return SUCCESS
    if arguments.quiet:  # otherwise the sentences state it
        failed = [f"{row['activation']} {row['status']}" for _, row in ranking[:_MAX_FAILURES].iterrows()]
        if remaining := len(ranking) - len(failed):
            failed.append(f"{remaining} more failed")
        print(f"actlab: nothing was compared on {outcome.name}: {'; '.join(failed)}", file=sys.stderr)
    return FAILURE


def _draw_diagram(across: Any, out: Path) -> list[Path]:
    """Draw the diagram; without matplotlib, print a note."""
    from actlab.report.plots.critical_difference import write_critical_difference

    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print('actlab: the picture needs matplotlib: pip install "actlab[figures]"', file=sys.stderr)
        return []
    write_critical_difference(across, out / "critical_difference.png")
    return [out / "critical_difference.png"]


def _connect(address: str | None) -> contextlib.AbstractContextManager[Executor | None]:
    """Return the Dask cluster at an address; None without an address."""
    if address is None:
        return contextlib.nullcontext()
    try:
        from actlab.execution.dask import Cluster
    except ImportError as error:
        raise UsageError("--scheduler needs Dask: pip install 'actlab[dask]'") from error
    return Cluster(address)
