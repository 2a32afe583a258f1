# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Which one is better?
#
# ReLU, tanh or leaky ReLU? The usual way to find out is a grid search with cross-validation, and to take
# the first of the table. This lesson does that, then does it in less time, and then asks what the table
# cannot answer: would the order be the same if we did it again?

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import nn

import actlab

name = os.environ.get("ACTLAB_TUTORIAL", "digits")
data = actlab.load_data(
    name, os.environ.get("ACTLAB_MNIST") if name == "mnist" else None
)
EPOCHS = (
    5 if name == "mnist" else 20
)  # fewer than the 25 of the lesson before: many nets are trained here
torch.set_num_threads(1)

# %% [markdown]
# ## The usual way
#
# The net is that of [the lesson before](03_train.ipynb), with one difference. We are going to train it by
# two programs and to compare the results, and both should start from the same weights. So this net draws
# its weights from a generator of its own, always the same ones.


# %%
class Net(actlab.NeuralNet):
    def __init__(self, activation="relu"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(
                activation=activation,
                num_features=data.num_features,
                num_classes=data.num_classes,
            )


net = NeuralNetClassifier(
    Net,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.95,
    lr=0.01,
    batch_size=128,
    max_epochs=EPOCHS,
    verbose=0,
)
grid = {"module__activation": [nn.ReLU(), nn.Tanh(), nn.LeakyReLU()]}

start = time.perf_counter()
search = GridSearchCV(net, grid, cv=3, scoring="accuracy", refit=False)
search.fit(data.X, data.y)
usual = time.perf_counter() - start


def table(search):
    """Return the scores of a search, a row for each activation and a column for each fold."""
    found = search.cv_results_
    scores = {
        f"fold {fold + 1}": found[f"split{fold}_test_score"] for fold in range(3)
    }
    index = [
        type(activation).__name__
        for activation in found["param_module__activation"]
    ]
    return pd.DataFrame(
        {
            **scores,
            "mean": found["mean_test_score"],
            "rank": found["rank_test_score"],
        },
        index,
    )


table(search)

# %% [markdown]
# Three activations, three folds: nine nets, and a winner.
#
# ## One import changed
#
# Nets this small keep a processor waiting: most of the time goes into everything but arithmetic.
# `actlab.FleetSearchCV` is a `GridSearchCV` that trains all nine together, as a fleet. Nothing else
# changes.

# %%
start = time.perf_counter()
fleet = actlab.FleetSearchCV(net, grid, cv=3, scoring="accuracy", refit=False)
fleet.fit(data.X, data.y)
together = time.perf_counter() - start

print(
    f"GridSearchCV {usual:.1f} s, FleetSearchCV {together:.1f} s: {together / usual:.2f} of the time"
)
table(fleet)

# %% [markdown]
# Are the results the same? Here is how far they are apart, in rows of the data.

# %%
apart = (table(fleet) - table(search)).filter(like="fold").abs() * len(data.y) / 3
apart.round().astype(int)

# %% [markdown]
# Tanh has the same number of rows right in every fold. So it is the same training; only sums are added up
# in another order, which is equal up to rounding. Where ReLU and leaky ReLU differ, that is rounding too:
# they have a bend, a unit on one side of it or on the other makes a step out of the last digit, and some
# thousand steps later a few rows of thousands are classified otherwise.
#
# Keep this in mind. **Two trainings that differ by nothing but rounding may differ by some rows.** A lead
# of some rows is no lead.
#
# ## Is the difference real?
#
# What would another seed have given? `FleetSearchCV` trains every fold once more for each seed, with other
# initial weights. Here is the table for four seeds; the net is now the plain `actlab.NeuralNet`, whose
# weights depend on the seed.

# %%
sizes = {
    "module__num_features": data.num_features,
    "module__num_classes": data.num_classes,
}
plain = clone(net).set_params(module=actlab.NeuralNet, **sizes)
seeds = actlab.FleetSearchCV(
    plain, grid, cv=3, scoring="accuracy", refit=False, seeds=4
).fit(data.X, data.y)

runs = np.array([seeds.cv_results_[f"split{run}_test_score"] for run in range(12)])
means = pd.DataFrame(
    runs.reshape(4, 3, 3).mean(axis=1),
    index=[f"seed {seed}" for seed in range(4)],
    columns=["ReLU", "Tanh", "LeakyReLU"],
)
means.assign(
    first=means.idxmax(axis=1), relu_minus_leaky=means["ReLU"] - means["LeakyReLU"]
)

# %% [markdown]
# The last column is the lead of ReLU over leaky ReLU. A table from one seed shows one row of this, and had
# the seed been another, the lead would have been another. So which row is to be believed?
#
# ## A verdict
#
# `actlab.compare` turns this into an answer. Every activation is trained on the same folds, from the same
# weights, with the same batches, so that what two of them share cannot tell them apart. With
# `until_decided` it looks after two seeds, and goes on with more for those pairs that are still open. We
# let a fourth function take part, the sigmoid.

# %%
start = time.perf_counter()
comparison = actlab.compare(
    ["relu", "tanh", "leaky_relu", "sigmoid"],
    data,
    epochs=EPOCHS,
    until_decided=True,
)
print(
    f"{comparison.about['trained']} nets in {time.perf_counter() - start:.0f} s\n"
)
print("\n".join(comparison.sentences()))

# %%
plt.figure(figsize=(9, 2.6))
actlab.plot_comparison(comparison)
plt.show()

# %% [markdown]
# How to read it:
#
# - **equivalent**: the difference lies within the grey band, a thousandth, with probability 0.95. ReLU and
#   leaky ReLU are equivalent: which of them comes first in a table is noise.
# - **worse** or **better**: the difference is real, and at most 5 % of such comparisons have a wrong word
#   anywhere. Sigmoid is worse than all others.
# - **undecided**: neither is known. That is an answer too, and the honest one for tanh in these settings.
#
# How these words are found, and why an ordinary t-test over the same runs would be wrong in half of all
# comparisons, stands in [the page on verdicts](../verdicts.md).
#
# ## A verdict is about the settings
#
# With 25 epochs on MNIST instead of five the answer about tanh is another. It begins fast, and then the two
# others overtake it: **tanh is worse than ReLU** by a quarter of a point, which takes 72 trainings to know.
# ReLU and leaky ReLU stay equivalent. That run is in [the same page](../verdicts.md); that three folds and
# one seed give another order of the two at each seed is measured in [the reproduction](../reproduction.md).
#
# So ask the question with the net, the data and the number of epochs that you mean.
#
# ## Why sigmoid is worse
#
# A comparison looks into its nets while they train. Here is the size of the gradient (root mean square) of
# each layer's weights after the first epochs that were looked at, from the first layer to the last.

# %%
weights = comparison.diagnostics.query("part == 'weights'")
first = weights[weights["epoch"] == weights["epoch"].min()]
sizes = first.pivot_table(
    index="activation", columns="name", values="gradient", aggfunc="mean"
)
sizes.assign(first_over_last=sizes.iloc[:, 0] / sizes.iloc[:, -1]).round(5)

# %% [markdown]
# The last column is how much of the last layer's gradient reaches the first. The derivative of sigmoid is
# never above 1/4, and each sigmoid that a gradient goes back through takes at least three quarters of it
# away. With two of them little is left for the first layer; with [thirty layers](../depth.md) nothing is.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
actlab.plot_history(comparison, axes[0], metric="train_loss")
actlab.plot_history(comparison, axes[1], metric="valid_acc")
plt.show()

# %% [markdown]
# The lines are means over all runs, the bands reach from the lowest run to the highest. ReLU and leaky ReLU
# lie on each other, or nearly.
#
# All runs as lines to brush, one line a run (here again a picture of the page):

# %% tags=["photograph"]
comparison.to_hiplot().display(force_full_width=True)

# %% [markdown]
# `comparison.to_csv("folder")` keeps everything;
# `actlab compare relu tanh leaky_relu sigmoid --data digits --until-decided` does the same from the command
# line and writes [a report](../report.md). More is in [the guide](../guide/compare.md).
#
# Next: [invent one](05_invent.ipynb).
