"""Thirty layers: which activations train at all? A result that is known, to see that it is found.

``python -m benchmarks.depth`` writes docs/depth.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import torch
from torch import Tensor, nn

import actlab
from actlab.models.networks import ActivationLike, fresh
from benchmarks.measuring import machine

PAGE = Path(__file__).parent.parent / "docs" / "depth.md"
_POINTS = 4001


class DeepNet(nn.Module):
    """A perceptron of many layers, initialised for its activation.

    Weights are drawn from a normal distribution with variance ``gain^2 / fan_in``, where ``gain^2`` is one
    over the mean of ``f(z)^2`` for a standard normal z: each layer then gives what it gets (K. He et al.,
    "Delving deep into rectifiers", 2015, for ReLU, where it is 2). From the same seed nets with different
    activations start from the same draws.

    Args:
        activation: What :class:`actlab.NeuralNet` takes.
        num_features: Columns of the input.
        num_classes: Columns of the output.
        depth: Layers.
        num_units: Width of each.
    """

    def __init__(
        self,
        activation: ActivationLike,
        num_features: int,
        num_classes: int,
        depth: int = 30,
        num_units: int = 64,
    ) -> None:
        super().__init__()
        widths = [num_features, *[num_units] * (depth - 1), num_classes]
        gain = _gain(activation)
        layers: list[nn.Module] = []
        for place, (wide, narrow) in enumerate(itertools.pairwise(widths)):
            linear = nn.Linear(wide, narrow)
            nn.init.normal_(linear.weight, std=(gain if place else 1.0) / math.sqrt(wide))
            nn.init.zeros_(linear.bias)
            layers += [linear, fresh(activation)]  # type: ignore[list-item]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        return self.layers(x)  # type: ignore[no-any-return]


def _gain(activation: ActivationLike) -> float:
    """Return one over the root mean square of an activation of a standard normal variable."""
    z = torch.linspace(-8, 8, _POINTS)
    density = torch.softmax(-z * z / 2, 0)
    with torch.no_grad():
        return float((fresh(activation)(z) ** 2 * density).sum()) ** -0.5


def page(epochs: int) -> str:
    """Compare, and return the page."""
    found = actlab.compare(
        ["sigmoid", "relu", "elu"],
        "digits",
        module=DeepNet,
        seeds=4,
        epochs=epochs,
        lr=0.003,
        momentum=0.9,
        verbose=1,
    )
    said = "\n".join(f"> {sentence}\n>" for sentence in found.sentences()).rstrip("\n>")
    return _PAGE.format(machine=machine("cpu"), epochs=epochs, tables=found.to_markdown().strip(), said=said)


_PAGE = """# Thirty layers

A known result: a deep network with sigmoids does not train, because each layer shrinks the gradient
(X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
2010). With ReLU and a matching initialisation, or with ELU, it trains.

<!-- not run: a minute -->
```sh
python -m benchmarks.depth
```

compares the three in a perceptron with 30 layers of 64 units on scikit-learn's digits, each
initialised for its activation: {epochs} epochs, three folds, four seeds ({machine}).

{tables}

`actlab.compare` prints:

{said}

Sigmoid has no rank: it is not the third best, because it has learnt nothing. Compare your own network
in the same way: `actlab compare sigmoid relu elu --module my_nets.py:DeepNet`.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training rows")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page that is written")
    arguments = parser.parse_args()
    arguments.out.write_text(page(arguments.epochs), encoding="utf-8")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
