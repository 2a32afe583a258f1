"""Helpers for the tests of the report: generated comparisons, and a browser."""

from __future__ import annotations

import itertools
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from actlab import Comparison
from actlab.judging.verdict_tables import VERDICTS

# Disable the browser's own network requests.
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
HOSTILE = [
    "</script><script>window.stolen = 1</script>",
    "<img src=x onerror='window.stolen = 1'>",
    '" onmouseover="window.stolen = 1" x="',
    "<!--<script>%{y}{{ 7 * 7 }}\u2028&lt;b&gt;",
    "🦊 \u202eפונקציה العربية",
    "n" * 300,
]


def comparison(names=("relu", "tanh", "mish"), seeds=4, epochs=12, folds=3, **changed):
    """Return a comparison of generated runs; the first activation is best and overfits."""
    rng = np.random.default_rng(0)
    places = list(itertools.product(names, range(seeds), range(1, folds + 1)))
    rows, history = [], []
    for name, seed, fold in places:
        score = 0.95 - 0.01 * names.index(name) + 0.002 * rng.normal()
        place = {"activation": name, "split": 1 + seed // 2, "fold": fold, "seed": seed}
        rows.append(
            {**place, "score": score, "accuracy": score, "loss": 1 - score, "epochs": epochs}
            | {
                "seconds": 0.2 + 0.1 * rng.random(),
                "how": "layer by layer",
                "reason_alone": "",
                "failure": "",
            }
            | {"chance": False, "key": f"{name}{seed}{fold}"[-40:]}
        )
        for epoch in range(1, epochs + 1):
            losses = {
                "train_loss": 2 / epoch,
                "valid_loss": 0.3 + (epoch - 5) ** 2 / 50 + 0.02 * rng.random(),
            }
            history.append({**place, "epoch": epoch, **losses, "valid_acc": 1 - 1 / (1 + epoch)})
    parts = {
        "results": pd.DataFrame(rows),
        "history": pd.DataFrame(history),
        "verdicts": verdicts(names, seeds * folds),
        "ranking": ranking(pd.DataFrame(rows)),
        "about": about(seeds, folds, len(rows)),
    }
    return Comparison(**{**parts, **changed})


def diagnostics_frame(names=("relu", "tanh", "mish"), runs=((1, 0), (2, 0)), epochs=(1, 2, 5, 12), layers=2):
    """Return generated diagnostics: units of the first activation die, gradients of the last one vanish."""
    rng, rows = np.random.default_rng(1), []
    for (place, name), (fold, seed), (step, epoch) in itertools.product(
        enumerate(names), runs, enumerate(epochs)
    ):
        run = {"activation": name, "split": 0, "fold": fold, "seed": seed, "epoch": epoch}
        for layer in range(1, layers + 1):
            values = rng.normal(0, 1 + 0.2 * step, 400).clip(0 if place == 0 else -9)
            sizes = rng.normal(-4 - 0.3 * place * (layers - layer), 0.6, 400)
            rows.append(
                {**run, "part": "activation", "layer": layer, "name": f"activation{layer}", "units": 64}
                | {"dead": min(0.1 * step * layer / layers, 1.0) * (place == 0)}
                | {"saturated": min(0.1 + 0.05 * step + 0.02 * place, 1.0)}
                | {"low": values.min(), "high": values.max(), "values": histogram(values)}
                | {"grad_zero": 0.5 * (place == 0), "grad_low": sizes.min(), "grad_high": sizes.max()}
                | {"gradients": histogram(sizes)}
            )
        for layer in range(1, layers + 2):
            size = 0.01 * 0.1 ** (min(place, 4) * (layers + 1 - layer))
            rows.append({**run, "part": "weights", "layer": layer, "name": f"fc{layer}", "gradient": size})
    return pd.DataFrame(rows)


def histogram(values):
    counts, _ = np.histogram(values, 20)
    return " ".join(str(round(1000 * count / len(values))) for count in counts)


def training(**changed):
    """Return a generated training of one model, in the form of a comparison."""
    whole = comparison(("relu",), seeds=1, folds=1)
    about = {"kind": "training", "data": "digits", "metric": "accuracy", "settings": {"epochs": 12}}
    parts = {
        "results": whole.results.drop(columns=["split", "fold", "chance", "key"]),
        "history": whole.history.drop(columns=["split", "fold", "seed"]),
        "ranking": whole.ranking,
        "verdicts": pd.DataFrame(),
        "about": about,
    }
    return Comparison(**{**parts, **changed})


def unfinished():
    """Return a comparison with unfinished runs."""
    whole = comparison()
    results = whole.results[:20]
    about = {**whole.about, "unfinished": {"done": 20, "planned": 36}}
    return comparison(results=results, ranking=ranking(results), verdicts=pd.DataFrame(), about=about)


def verdicts(names, runs):
    rows = []
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        row = dict.fromkeys(VERDICTS, 0.5) | {"a": a, "b": b, "level": 0.05, "runs": runs, "seeds": 4}
        gap = 0.01 * (j - i)
        row |= {
            "verdict": ("undecided", "better")[j - i > 1],
            "difference": gap,
            "low": gap - 0.012,
            "high": gap + 0.012,
        }
        rows.append(
            {**row, "more_seeds": pd.NA, "reason": "about 2 more seeds would decide it" * (j - i == 1)}
        )
    return pd.DataFrame(rows, columns=list(VERDICTS)).astype({"more_seeds": "Int64"})


def ranking(results):
    means = results.groupby("activation", sort=False)["score"]
    frame = means.agg(["mean", "std", "size"]).reset_index().rename(columns={"size": "runs"})
    frame["status"] = np.where(frame["mean"].isna(), "diverged in every run", "")
    frame.insert(0, "rank", pd.Series(range(1, len(frame) + 1), dtype="Int64").where(frame["mean"].notna()))
    return frame


def about(seeds, folds, trained):
    return {
        "actlab": "0.1.0",
        "data": "digits",
        "metric": "accuracy",
        "region": 0.002,
        "region_is": "one row of a fold",
        "points": True,
        "folds": folds,
        "seeds": seeds,
        "level": 0.05,
        "trained": trained,
        "tuned": [],
        "settings": {"epochs": 12, "lr": 0.01, "seed": 0},
        "date": "2026-01-02T03:04:05+00:00",
    }


def all_diverged():
    """Return a comparison in which every run has failed."""
    whole = comparison(("relu", "tanh"), seeds=1)
    results = whole.results.assign(score=math.nan, accuracy=math.nan, loss=math.nan, failure="diverged")
    history = whole.history.assign(train_loss=math.nan, valid_loss=math.inf, valid_acc=math.nan)
    none = {
        "verdict": "none",
        "difference": math.nan,
        "low": math.nan,
        "high": math.nan,
        "reason": "relu diverged",
    }
    return comparison(
        ("relu", "tanh"),
        seeds=1,
        results=results,
        history=history,
        ranking=ranking(results),
        verdicts=whole.verdicts.assign(**none),
    )


@pytest.fixture(scope="module")  # Playwright supports one event loop at a time
def browser():
    """Return a real browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    where = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if where is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        result = playwright.chromium.launch(executable_path=where, args=QUIET)
        yield result
        result.close()
