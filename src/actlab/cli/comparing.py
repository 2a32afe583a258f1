"""``actlab compare``: one dataset, or several."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actlab.cli.repeating import command_line
from actlab.cli.saying import (
    DONE,
    NO,
    REPORT,
    check_figures,
    figures,
    hiplot_page,
    report_page,
    say,
    say_all,
    wrapped,
)
from actlab.cli.verbs import dataset_of, settings_of
from actlab.errors import UsageError
from actlab.files import LEDGER

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from actlab.comparison.comparison import Comparison
    from actlab.data.dataset import Dataset
    from actlab.training.train import TrainSettings

_FAILED = 5  # activations in a line that says why there is nothing to say
_RANKING = ["rank", "activation", "mean", "std", "runs"]


def compare(arguments: argparse.Namespace) -> int:
    """Compare activations."""
    from actlab.comparison.comparison import check_comparison
    from actlab.files import output_folder

    settings, design = settings_of(arguments), _design(arguments)
    datasets = _datasets(arguments)
    folders = _folders(arguments.out, datasets)
    for dataset in datasets:
        check_comparison(arguments.activations, dataset, settings, **design)
    for folder in folders:
        output_folder(folder)
    check_figures(arguments)
    if arguments.mlflow is not None:
        from actlab.integrations.mlflow import check_store

        check_store(arguments.mlflow)
    with _cluster(arguments.scheduler) as executor:
        found = [
            _compared(arguments, dataset, source, settings, design, folder, executor)
            for dataset, source, folder in zip(datasets, _sources(arguments), folders, strict=True)
        ]
    if len(found) == 1:
        return _say_one(arguments, datasets[0], *found[0])
    return _say_several(arguments, datasets, found)


def _design(arguments: argparse.Namespace) -> dict[str, Any]:
    names = "folds seeds until_decided budget module replace scoring rope jobs diagnostics".split()
    return {**{name: getattr(arguments, name) for name in names}, "tune": _tuned(arguments.tune)}


def _sources(arguments: argparse.Namespace) -> list[str]:
    return arguments.data or ["digits"]


def report(arguments: argparse.Namespace) -> int:
    """Write the report of what was trained before, or is being trained."""
    from actlab.comparison.loading import found_in
    from actlab.report.html.page import write_report
    from actlab.report.sentences import report_sentences

    found = found_in(arguments.folder)
    path = arguments.out or arguments.folder / REPORT
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {str(path)!r}: there is no such folder")
    check_figures(arguments)
    try:
        write_report(found, path)
    except ImportError as error:
        raise UsageError(str(error)) from error
    files = [path, *figures(arguments, found, arguments.folder)]
    if arguments.json:
        print(json.dumps({"insights": report_sentences(found), "files": [str(file) for file in files]}))
    else:
        said = report_sentences(found)[:1] if "unfinished" in found.about else []
        print("\n".join(wrapped([*said, f"Written: {', '.join(map(str, files))}"])))
    return DONE


def _datasets(arguments: argparse.Namespace) -> list[Dataset]:
    sources = _sources(arguments)
    if len(sources) == 1:
        return [dataset_of(arguments, sources[0])]
    from actlab.data.dataset import arguments_of

    # What is said of one of them need not fit the others.
    return [dataset_of(arguments, source, only=arguments_of(source)) for source in sources]


def _tuned(texts: list[str]) -> dict[str, list[Any]]:
    """Read ``lr=0.003,0.01``: values are literals of Python, or words."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values or name in found:
            wrong = "names it twice" if name in found else "is not NAME=VALUE,VALUE"
            raise UsageError(f"--tune {text!r} {wrong}; right is lr=0.003,0.01,0.03")
        found[name] = [_literal(value) for value in values.split(",")]
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def _folders(out: Path, datasets: list[Dataset]) -> list[Path]:
    """Return where the files of each dataset go."""
    if len(datasets) == 1:
        return [out]
    if len({dataset.fingerprint for dataset in datasets}) < len(datasets):
        raise UsageError("--data is given the same data twice; several datasets are several sets of rows")
    names = [re.sub(r"[^\w.-]", "_", dataset.name) for dataset in datasets]
    if len(set(names)) < len(names):
        raise UsageError(f"--data is given two files of one name, {_twice(names)!r}: give them other names")
    return [out / name for name in names]


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _compared(
    arguments: argparse.Namespace,
    dataset: Dataset,
    source: str,
    settings: TrainSettings,
    design: Mapping[str, Any],
    out: Path,
    executor: Executor | None,
) -> tuple[Comparison, list[Path], str]:
    """Compare on one dataset; return what came out, the files written and what MLflow said."""
    import actlab.comparison
    from actlab.comparison.comparison import Interrupted, cv_results
    from actlab.report.tables import plain_rows, write_csv

    try:
        found = actlab.comparison.compare(
            arguments.activations,
            dataset,
            ledger=out / LEDGER,
            executor=executor,
            verbose=0 if arguments.quiet else 1 + arguments.verbose,
            **design,
            **dataclasses.asdict(settings),
        )
    except Interrupted as interruption:
        write_csv(interruption.results, out / "results.csv")
        write_csv(interruption.history, out / "history.csv")
        raise
    table = cv_results(found.results)
    write_csv(table, out / "cv_results.csv")
    pages = hiplot_page(plain_rows(table.filter(regex="^param_|_score$")), out)
    about = {
        **found.about,
        "command": command_line(arguments, "compare", *arguments.activations, "--data", source),
    }
    found = dataclasses.replace(found, about=about)
    files = [out / LEDGER, out / "cv_results.csv", *found.to_csv(out), *report_page(found, out / REPORT)]
    files += [out / page for page in pages]
    files += figures(arguments, found, out)
    logged = ""
    if arguments.mlflow is not None:
        from actlab.integrations.mlflow import log_comparison

        logged = log_comparison(
            found.results,
            found.history,
            arguments.mlflow,
            name=f"{dataset.name}: {', '.join(arguments.activations)}",
            settings={
                **{name: found.about[name] for name in ("data", "folds", "seeds", "metric")},
                **dataclasses.asdict(settings),
            },
            files=files[1:],
            keys=found.results["key"].to_list(),
        )
    return found, files, logged


def _say_one(
    arguments: argparse.Namespace, dataset: Dataset, found: Comparison, files: list[Path], logged: str
) -> int:
    said = {**_report(found), **({"mlflow": logged} if logged else {})}
    lines = [_table(found), "", *wrapped(found.sentences())]
    say(arguments, dataset, said, [*lines, *(["", *wrapped([logged])] if logged else [])], files)
    return _status(arguments, dataset, found)


def _report(found: Comparison) -> dict[str, Any]:
    from actlab.report.tables import plain_rows

    return {
        "ranking": plain_rows(found.ranking),
        "verdicts": plain_rows(found.verdicts),
        "insights": found.sentences(),
    }


def _table(found: Comparison) -> str:
    """Return the ranking, with its folds or seeds as far as there is room."""
    from actlab.report.tables import text_table

    parts = [str(name) for name in found.ranking if str(name).startswith(("fold_", "seed_"))]
    return text_table(found.ranking[[*_RANKING, *parts]])


def _say_several(
    arguments: argparse.Namespace, datasets: list[Dataset], found: list[tuple[Comparison, list[Path], str]]
) -> int:
    """Say what holds over all datasets."""
    import pandas as pd

    from actlab.report.plots.critical_difference import text_diagram
    from actlab.report.tables import plain_rows, write_csv
    from actlab.stats.several_datasets import over_datasets

    means = {
        dataset.name: comparison.ranking.set_index("activation")["mean"]
        for dataset, (comparison, _, _) in zip(datasets, found, strict=True)
    }
    scores = pd.DataFrame(means).T[list(arguments.activations)]
    across = over_datasets(scores)
    table = scores.rename_axis("data").reset_index()
    write_csv(table, arguments.out / "datasets.csv")
    write_csv(across.verdicts, arguments.out / "across.csv")
    files = [arguments.out / "datasets.csv", arguments.out / "across.csv", *_diagram(across, arguments.out)]
    lines, said = [], {}
    for dataset, (comparison, _, logged) in zip(datasets, found, strict=True):
        lines += [f"{dataset.name}:", _table(comparison), "", *wrapped(comparison.sentences()), ""]
        lines += [*wrapped([logged]), ""] if logged else []
        said[dataset.name] = {**_report(comparison), **({"mlflow": logged} if logged else {})}
    across_said = {
        "ranks": plain_rows(across.ranks),
        "verdicts": plain_rows(across.verdicts),
        "insights": across.sentences(),
    }
    lines += [f"Over {len(datasets)} datasets:", text_diagram(across), "", *wrapped(across.sentences())]
    files += sorted({file.parent for _, written, _ in found for file in written})
    say_all(arguments, {"datasets": said, "across": across_said}, lines, files)
    return max(
        _status(arguments, dataset, comparison)
        for dataset, (comparison, _, _) in zip(datasets, found, strict=True)
    )


def _status(arguments: argparse.Namespace, dataset: Dataset, found: Comparison) -> int:
    """Return the exit status: nothing can be said where every activation has failed."""
    ranking = found.ranking
    if not ranking["mean"].isna().all():
        return DONE
    if arguments.quiet:  # else it is among the sentences
        failed = [f"{row['activation']} {row['status']}" for _, row in ranking[:_FAILED].iterrows()]
        if left := len(ranking) - len(failed):
            failed.append(f"{left} more failed")
        print(f"actlab: nothing was compared on {dataset.name}: {'; '.join(failed)}", file=sys.stderr)
    return NO


def _diagram(across: Any, out: Path) -> list[Path]:
    """Draw the diagram; without matplotlib say so, for there is one in text."""
    from actlab.report.plots.critical_difference import write_critical_difference

    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print('actlab: no picture without matplotlib: pip install "actlab[figures]"', file=sys.stderr)
        return []
    write_critical_difference(across, out / "critical_difference.png")
    return [out / "critical_difference.png"]


def _cluster(address: str | None) -> contextlib.AbstractContextManager[Executor | None]:
    """Return a Dask cluster, if one is asked for."""
    if address is None:
        return contextlib.nullcontext()
    try:
        from actlab.execution.dask import Cluster
    except ImportError as error:
        raise UsageError("--scheduler needs Dask: pip install 'actlab[dask]'") from error
    return Cluster(address)
