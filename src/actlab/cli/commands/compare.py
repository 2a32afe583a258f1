"""``actlab compare``: one dataset, or several."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.cli.options import (
    Parser,
    add_data_options,
    add_output_options,
    add_training_options,
    command_line,
    load_dataset,
    train_settings,
)
from actlab.cli.output import (
    FAILURE,
    SUCCESS,
    check_figures,
    print_result,
    wrap_sentences,
    write_pages,
)
from actlab.errors import UsageError
from actlab.files import LEDGER

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from actlab.comparison.comparison import Comparison
    from actlab.comparison.config import ComparisonConfig
    from actlab.comparison.plan import ComparisonPlan
    from actlab.data.dataset import Dataset

SUMMARY = "train with each activation and judge which is better"
EXAMPLES = (
    "actlab compare relu tanh leaky_relu --folds 3 --epochs 25",
    "actlab compare relu mish --until-decided --budget 20m",
    "actlab compare relu elu --tune lr=0.003,0.01,0.03 --module my_nets.py:Net",
)

_MAX_FAILURES = 5  # in the message that no activation has a result
_RANKING = ["rank", "activation", "mean", "std", "runs"]


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    activation = 'activation, such as relu, "elu(alpha=0.5)" or "formula:x*tanh(x)"'
    parser.add_argument("activations", nargs="+", metavar="NAME", help=activation)
    data = "dataset name, or .npz or .csv file (default: digits); repeat it for several datasets"
    add_data_options(parser, action="append", help=data)
    add = parser.add_argument_group("model").add_argument
    add("--module", metavar="M:NET", help="network: package.module:Net or file.py:Net(width=64)")
    add("--replace", metavar="NAME", help="activation to replace, if the network has several kinds")
    add = add_training_options(parser)
    tune = "values to try in each run, such as lr=0.003,0.01; the one with the best validation score is kept"
    add("--tune", action="append", default=[], metavar="NAME=A,B", help=tune)
    add = parser.add_argument_group("statistics").add_argument
    add("--folds", type=int, default=3, metavar="N", help="number of cross-validation folds")
    add("--seeds", type=int, default=1, metavar="N", help="number of seeds per fold")
    add("--until-decided", action="store_true", help="add seeds, up to 32, until every verdict is decided")
    add("--budget", metavar="N|Nm", help="limit of --until-decided: N runs, or N minutes (20m)")
    add("--scoring", metavar="NAME", help="scikit-learn scorer (default: accuracy or r2)")
    add(
        "--rope",
        type=float,
        metavar="X",
        help="differences up to X are practically equivalent (default: set by the scorer)",
    )
    add = parser.add_argument_group("execution").add_argument
    add("--jobs", type=int, metavar="N", help="worker processes (default: chosen automatically)")
    add("--scheduler", metavar="ADDRESS", help="train on a Dask cluster: tcp://HOST:PORT")
    add = add_output_options(parser, "out/compare")
    add("--mlflow", metavar="URI", help="log to MLflow: sqlite:///runs.db or http://HOST:PORT")


def run(arguments: argparse.Namespace) -> int:
    """Compare activations."""
    from actlab.comparison.plan import ComparisonPlan
    from actlab.files import output_folder

    datasets = _datasets(arguments)
    folders = _folders(arguments.out, datasets)
    plans = [ComparisonPlan(_config(arguments, dataset)) for dataset in datasets]
    for folder in folders:
        output_folder(folder)
    check_figures(arguments)
    if arguments.mlflow is not None:
        from actlab.integrations.mlflow import check_store

        check_store(arguments.mlflow)
    with _cluster(arguments.scheduler) as executor:
        results = [
            _compare(arguments, plan, source, folder, executor)
            for plan, source, folder in zip(plans, _sources(arguments), folders, strict=True)
        ]
    if len(results) == 1:
        return _print_one(arguments, datasets[0], *results[0])
    return _print_several(arguments, datasets, results)


def _config(arguments: argparse.Namespace, dataset: Dataset) -> ComparisonConfig:
    from actlab.comparison.config import ComparisonConfig

    names = "activations folds seeds until_decided budget module replace scoring rope jobs diagnostics"
    options = {name: getattr(arguments, name) for name in names.split()}
    settings, tune = train_settings(arguments), _parse_tune(arguments.tune)
    return ComparisonConfig(dataset=dataset, settings=settings, tune=tune, **options)


def _sources(arguments: argparse.Namespace) -> list[str]:
    return arguments.data or ["digits"]


def _datasets(arguments: argparse.Namespace) -> list[Dataset]:
    sources = _sources(arguments)
    if len(sources) == 1:
        return [load_dataset(arguments, sources[0])]
    from actlab.data.dataset import list_accepted_arguments

    # An option for one kind of data need not fit the others.
    return [load_dataset(arguments, source, only=list_accepted_arguments(source)) for source in sources]


def _parse_tune(texts: list[str]) -> dict[str, list[Any]]:
    """Read ``lr=0.003,0.01``: values are literals of Python, or words."""
    tuned: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values or name in tuned:
            wrong = "names it twice" if name in tuned else "is not NAME=VALUE,VALUE"
            raise UsageError(f"--tune {text!r} {wrong}; write lr=0.003,0.01,0.03, for example")
        tuned[name] = [_literal(value) for value in values.split(",")]
    return tuned


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def _folders(out: Path, datasets: list[Dataset]) -> list[Path]:
    """Return the output folder of each dataset."""
    if len(datasets) == 1:
        return [out]
    if len({dataset.fingerprint for dataset in datasets}) < len(datasets):
        raise UsageError("--data names the same data twice; each dataset must be different")
    names = [re.sub(r"[^\w.-]", "_", dataset.name) for dataset in datasets]
    if len(set(names)) < len(names):
        raise UsageError(f"--data names two files called {_twice(names)!r}; rename one of them")
    return [out / name for name in names]


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _compare(
    arguments: argparse.Namespace, plan: ComparisonPlan, source: str, out: Path, executor: Executor | None
) -> tuple[Comparison, list[Path], str]:
    """Compare on one dataset; return the comparison, the files written and the message from MLflow."""
    from actlab.comparison.comparison import Interrupted, run_comparison
    from actlab.comparison.tables import cv_results
    from actlab.report.tables import to_json_rows, write_csv

    verbose = 0 if arguments.quiet else 1 + arguments.verbose
    try:
        comparison = run_comparison(plan, ledger=out / LEDGER, executor=executor, verbose=verbose)
    except Interrupted as interruption:
        write_csv(interruption.results, out / "results.csv")
        write_csv(interruption.history, out / "history.csv")
        raise
    table = cv_results(comparison.results)
    write_csv(table, out / "cv_results.csv")
    command = command_line(arguments, "compare", *arguments.activations, "--data", source)
    comparison = dataclasses.replace(comparison, about={**comparison.about, "command": command})
    rows = to_json_rows(table.filter(regex="^param_|_score$"))
    files = [
        out / LEDGER,
        out / "cv_results.csv",
        *comparison.to_csv(out),
        *write_pages(arguments, comparison, rows, out),
    ]
    logged = ""
    if arguments.mlflow is not None:
        from actlab.integrations.mlflow import log_comparison

        logged = log_comparison(
            comparison.results,
            comparison.history,
            arguments.mlflow,
            name=f"{plan.config.dataset.name}: {', '.join(arguments.activations)}",
            settings={
                **{name: comparison.about[name] for name in ("data", "folds", "seeds", "metric")},
                **dataclasses.asdict(plan.config.settings),
            },
            files=files[1:],
            keys=comparison.results["key"].to_list(),
        )
    return comparison, files, logged


def _print_one(
    arguments: argparse.Namespace, dataset: Dataset, comparison: Comparison, files: list[Path], logged: str
) -> int:
    about = {"data": dataset.name, "fingerprint": dataset.fingerprint}
    result = {**about, **_to_json(comparison), **({"mlflow": logged} if logged else {})}
    lines = [_table(comparison), "", *wrap_sentences(comparison.sentences())]
    lines += ["", *wrap_sentences([logged])] if logged else []
    print_result(arguments, result, lines, files)
    return _status(arguments, dataset, comparison)


def _to_json(comparison: Comparison) -> dict[str, Any]:
    from actlab.report.tables import to_json_rows

    return {
        "ranking": to_json_rows(comparison.ranking),
        "verdicts": to_json_rows(comparison.verdicts),
        "insights": comparison.sentences(),
    }


def _table(comparison: Comparison) -> str:
    """Return the ranking, with the scores of folds or seeds as far as they fit."""
    from actlab.report.tables import text_table

    parts = [str(name) for name in comparison.ranking if str(name).startswith(("fold_", "seed_"))]
    return text_table(comparison.ranking[[*_RANKING, *parts]])


def _print_several(
    arguments: argparse.Namespace, datasets: list[Dataset], results: list[tuple[Comparison, list[Path], str]]
) -> int:
    """Print the verdicts over all datasets."""
    import pandas as pd

    from actlab.report.plots.critical_difference import rank_table
    from actlab.report.tables import to_json_rows, write_csv
    from actlab.stats.several_datasets import compare_over_datasets

    means = {
        dataset.name: comparison.ranking.set_index("activation")["mean"]
        for dataset, (comparison, _, _) in zip(datasets, results, strict=True)
    }
    scores = pd.DataFrame(means).T[list(arguments.activations)]
    across = compare_over_datasets(scores)
    table = scores.rename_axis("data").reset_index()
    write_csv(table, arguments.out / "datasets.csv")
    write_csv(across.verdicts, arguments.out / "across.csv")
    files = [arguments.out / "datasets.csv", arguments.out / "across.csv", *_diagram(across, arguments.out)]
    lines, result = [], {}
    for dataset, (comparison, _, logged) in zip(datasets, results, strict=True):
        lines += [f"{dataset.name}:", _table(comparison), "", *wrap_sentences(comparison.sentences()), ""]
        lines += [*wrap_sentences([logged]), ""] if logged else []
        result[dataset.name] = {**_to_json(comparison), **({"mlflow": logged} if logged else {})}
    across_json = {
        "ranks": to_json_rows(across.ranks),
        "verdicts": to_json_rows(across.verdicts),
        "insights": across.sentences(),
    }
    lines += [
        f"Over {len(datasets)} datasets:",
        rank_table(across),
        "",
        *wrap_sentences(across.sentences()),
    ]
    files += sorted({file.parent for _, written, _ in results for file in written})
    print_result(arguments, {"datasets": result, "across": across_json}, lines, files)
    return max(
        _status(arguments, dataset, comparison)
        for dataset, (comparison, _, _) in zip(datasets, results, strict=True)
    )


def _status(arguments: argparse.Namespace, dataset: Dataset, comparison: Comparison) -> int:
    """Return the exit status, which is a failure if every activation has failed."""
    ranking = comparison.ranking
    if not ranking["mean"].isna().all():
        return SUCCESS
    if arguments.quiet:  # otherwise the sentences state it
        failed = [f"{row['activation']} {row['status']}" for _, row in ranking[:_MAX_FAILURES].iterrows()]
        if left := len(ranking) - len(failed):
            failed.append(f"{left} more failed")
        print(f"actlab: nothing was compared on {dataset.name}: {'; '.join(failed)}", file=sys.stderr)
    return FAILURE


def _diagram(across: Any, out: Path) -> list[Path]:
    """Draw the diagram; without matplotlib, print a note: the text has one too."""
    from actlab.report.plots.critical_difference import write_critical_difference

    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print('actlab: the picture needs matplotlib: pip install "actlab[figures]"', file=sys.stderr)
        return []
    write_critical_difference(across, out / "critical_difference.png")
    return [out / "critical_difference.png"]


def _cluster(address: str | None) -> contextlib.AbstractContextManager[Executor | None]:
    """Return the Dask cluster at an address; None without an address."""
    if address is None:
        return contextlib.nullcontext()
    try:
        from actlab.execution.dask import Cluster
    except ImportError as error:
        raise UsageError("--scheduler needs Dask: pip install 'actlab[dask]'") from error
    return Cluster(address)
