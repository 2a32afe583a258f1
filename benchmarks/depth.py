"""Which activations train a network with thirty layers, and does theory predict it?

``python -m benchmarks.depth`` writes docs/depth.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pandas as pd

import actlab
from actlab.models.gaussian_moments import gaussian_moments
from benchmarks.measuring import machine

PAGE = Path(__file__).parent.parent / "docs" / "depth.md"
LAYERS, UNITS = 30, 64
RATES = [0.0003, 0.001, 0.003, 0.01]
KINKED = ("relu", "leaky_relu", "hardtanh")  # for comparison with the smooth activations
SPECS = {"dynamic_tanh": f"dynamic_tanh(num_features={UNITS})"}  # its module needs the argument
REACH = 6  # a network trains while it has fewer layers than this many correlation lengths
TRAINED = 0.5  # the accuracy of a network that trains
ROUNDING = 1e-6


def list_activations() -> list[str]:
    """Return the smooth elementwise activations of the catalogue, and some with a kink."""
    elementwise = [definition for definition in actlab.catalogue.values() if not definition.facts.gated]
    smooth = [one.name for one in elementwise if not one.kinks(**one.example)]
    return [SPECS.get(name, name) for name in (*smooth, *KINKED)]


def measure(epochs: int, activations: list[str], ledger: Path | None = None) -> pd.DataFrame:
    """Train the networks; return one row per activation.

    Args:
        epochs: Epochs of each run.
        activations: Names of the activations.
        ledger: A ledger of finished runs.
    """
    comparison = actlab.compare(
        activations,
        "digits",
        hidden=(UNITS,) * (LAYERS - 1),
        init="matched",
        epochs=epochs,
        momentum=0.9,
        lr=RATES[0],
        tune={"lr": RATES},
        diagnostics=False,
        ledger=ledger,
        verbose=1,
    )
    scores = comparison.ranking.set_index("activation")["mean"]
    rows = []
    for spec in activations:
        name = spec.partition("(")[0]
        moments = gaussian_moments(actlab.catalogue[name])
        factor = moments.slope / moments.second
        length = 1 / abs(math.log(factor)) if abs(factor - 1) > ROUNDING else math.inf
        rows.append((name, moments.variance_slope, factor, length, scores[spec]))
    return pd.DataFrame(rows, columns=["name", "variance_slope", "factor", "length", "accuracy"])


def page(table: pd.DataFrame, epochs: int) -> str:
    """Return the page.

    Args:
        table: As :func:`measure` returns it.
        epochs: Epochs of each run.
    """
    stable = table["variance_slope"].abs() <= 1 + ROUNDING
    table = table.assign(can=stable & (table["length"] * REACH >= LAYERS), trains=table["accuracy"] > TRAINED)
    table = table.sort_values(["can", "accuracy"], ascending=False, kind="stable", na_position="last")
    can, trains = table["can"], table["trains"]
    return _PAGE.format(
        machine=machine("cpu"),
        epochs=epochs,
        layers=LAYERS,
        units=UNITS,
        rates=", ".join(map(str, RATES)),
        reach=REACH,
        trained=TRAINED,
        table="\n".join(map(_format_row, table.itertuples(index=False))),
        able=int(can.sum()),
        able_trained=int((can & trains).sum()),
        unable=int((~can).sum()),
        exceptions=", ".join(table["name"][~can & trains]) or "none",
        unstable=", ".join(table["name"][~stable & ~trains & (table["length"] * REACH >= LAYERS)]),
    )


def _format_row(row: Any) -> str:
    length = "unlimited" if math.isinf(row.length) else f"{row.length:.1f}"
    accuracy = "diverged" if math.isnan(row.accuracy) else f"{row.accuracy:.3f}"
    able = "yes" if row.can else "no"
    return f"| {row.name} | {row.variance_slope:.2f} | {row.factor:.3f} | {length} | {able} | {accuracy} |"


_PAGE = """# Thirty layers

A deep network of sigmoids does not train, because each layer shrinks the gradient (X. Glorot, Y. Bengio,
"Understanding the difficulty of training deep feedforward neural networks", 2010). The theory of signal
propagation (S. Schoenholz et al., "Deep information propagation", 2017) predicts which activations have this
problem. [Matched initialization](guide/compare.md) gives the outputs of every layer a mean square of 1.
Whether a deep network then trains depends on two numbers, which `actlab.models.gaussian_moments` computes for
`z ~ N(0, 1)`:

- The **variance slope** is the factor by which a layer changes a small deviation of a sample's mean square.
  Above 1, the deviation grows from layer to layer: the outputs explode for some samples and vanish for
  others.
- The **gradient factor** `E[f'(z)^2] / E[f(z)^2]` is the factor by which a layer changes the mean square of
  the gradient. Below 1, the outputs for two different samples become equal; above 1, they become unrelated.
  The **correlation length** is `1 / |log(factor)|` layers. Networks can be trained up to a depth of about
  {reach} correlation lengths.

<!-- not run: many minutes -->
```sh
python -m benchmarks.depth
```

This command trains a perceptron with {layers} layers of {units} units on scikit-learn's digits. It uses every
smooth elementwise activation in the catalogue and three with a kink. Each run uses matched initialization,
{epochs} epochs, and the learning rate that is best on validation samples ({rates}). In the column *theory*,
"yes" means that the variance slope is at most 1 and {layers} layers are at most {reach} correlation lengths.
Accuracies are means over three folds; chance is 0.1 ({machine}).

| activation | variance slope | gradient factor | correlation length | theory | accuracy |
| --- | --: | --: | --: | --- | --: |
{table}

- According to the theory, {able} of these activations can train {layers} layers. The accuracy is above
  {trained} for {able_trained} of them.
- According to the theory, {unable} cannot. Some of them exceed {trained} nevertheless: {exceptions}. The
  limits are therefore approximate.
- For {unstable}, only the variance slope exceeds its limit. Normalization or residual connections can keep
  the variance of each sample stable.

The [survey](survey.md) trains another network of 30 layers, and every run chooses its learning rate and
initialization. Its ranking therefore differs.

`actlab compare` tries both initializations by default. Compare deep networks in your own setting, for
example with `actlab compare sigmoid relu elu --data digits --hidden 64,64,64,64,64,64,64,64`.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each run")
    parser.add_argument(
        "--ledger", type=Path, help="file of finished runs, to resume an interrupted benchmark"
    )
    parser.add_argument("--out", type=Path, default=PAGE, help="path of the page to write")
    arguments = parser.parse_args()
    table = measure(arguments.epochs, list_activations(), arguments.ledger)
    arguments.out.write_text(page(table, arguments.epochs), encoding="utf-8")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
