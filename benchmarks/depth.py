"""Reproduce a known result: which activations train a network with thirty layers?

``python -m benchmarks.depth`` writes docs/depth.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

from torch import Tensor, nn

import actlab
from actlab.models.networks import ActivationLike, new_activation
from benchmarks.measuring import machine

PAGE = Path(__file__).parent.parent / "docs" / "depth.md"


class DeepNet(nn.Module):
    """A perceptron of many layers, initialised for its activation.

    Weights are drawn from a normal distribution with variance ``actlab.gain(activation)**2 / fan_in``, so
    that layers keep the variance of their input. Networks with the same seed and different activations start
    from the same random numbers.

    Args:
        activation: Activation, as in :class:`actlab.NeuralNet`.
        num_features: Number of features.
        num_classes: Number of classes.
        depth: Number of linear layers.
        num_units: Units of each hidden layer.
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
        gain = actlab.gain(activation)
        layers: list[nn.Module] = []
        for index, (wide, narrow) in enumerate(itertools.pairwise(widths)):
            linear = nn.Linear(wide, narrow)
            nn.init.normal_(linear.weight, std=(gain if index else 1.0) / math.sqrt(wide))
            nn.init.zeros_(linear.bias)
            layers += [linear, new_activation(activation)]  # type: ignore[list-item]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, num_classes) of ``x`` (n, num_features)."""
        return self.layers(x)  # type: ignore[no-any-return]


def page(epochs: int) -> str:
    """Compare sigmoid, relu and elu, and return the page."""
    comparison = actlab.compare(
        ["sigmoid", "relu", "elu"],
        "digits",
        module=DeepNet,
        seeds=4,
        epochs=epochs,
        lr=0.003,
        momentum=0.9,
        tune=None,
        verbose=1,
    )
    sentences = "\n".join(f"> {sentence}\n>" for sentence in comparison.sentences()).rstrip("\n>")
    return _PAGE.format(
        machine=machine("cpu"),
        epochs=epochs,
        tables="\n".join(map(comparison.to_markdown, ("ranking", "verdicts"))).strip(),
        sentences=sentences,
    )


_PAGE = """# Thirty layers

A known result: a deep network with sigmoids does not train, because each layer shrinks the gradient
(X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
2010). With ReLU and a matching initialisation, or with ELU, it trains.

<!-- not run: a minute -->
```sh
python -m benchmarks.depth
```

This command compares the three activations on scikit-learn's digits, in a perceptron with 30 layers of
64 units that is initialised for its activation. It trains each network for {epochs} epochs, with three folds
and four seeds ({machine}).

{tables}

`actlab.compare` prints:

{sentences}

Sigmoid has no rank, because it stayed at chance level. Compare your own network
in the same way: `actlab compare sigmoid relu elu --module my_nets.py:DeepNet`.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each run")
    parser.add_argument("--out", type=Path, default=PAGE, help="path of the page to write")
    arguments = parser.parse_args()
    arguments.out.write_text(page(arguments.epochs), encoding="utf-8")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
