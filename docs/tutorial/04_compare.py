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
# ReLU, tanh or leaky ReLU? The usual way to find out is to run a grid search with cross-validation and take
# the first row of the table. This lesson does that, and then does it in less time. The table does not show
# whether the order would be the same if we repeated the search. So we test this, too. The lesson ends with two
# significant differences: tuning removes the first, but not the second.

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
)  # fewer than in lesson 3, because this lesson trains many models
torch.set_num_threads(1)

# %% [markdown]
# ## The usual way
#
# We use the model of [the previous lesson](03_train.ipynb) with one difference. Two programs will train it, and
# we want to compare their results, so both must start from the same weights. This class therefore draws its
# weights from a fixed seed.


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
    """Return the scores of a search: one row per activation, one column per fold."""
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
# Three activations and three folds give nine runs and a winner.
#
# ## One import changed
#
# With models this small, the processor is mostly idle: overhead takes more time than arithmetic.
# `actlab.FleetSearchCV` is a `GridSearchCV` that trains all nine models together, as a fleet. Nothing else
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
# Are the results the same? This table shows the differences, in samples.

# %%
difference = (
    (table(fleet) - table(search)).filter(like="fold").abs() * len(data.y) / 3
)
difference.round().astype(int)

# %% [markdown]
# Tanh has the same number of correct samples in every fold. So the runs are the same up to rounding: the
# fleet adds numbers in a different order. The differences of ReLU and leaky ReLU also come from rounding. At
# a kink, a change in the last digit switches a unit on or off, and thousands of steps later a few samples are
# classified differently.
#
# Keep this in mind: **two runs that differ only by rounding may differ by a few samples.** A lead of a few
# samples means nothing.
#
# ## Is the difference real?
#
# What would another seed have given? With `seeds=4`, `FleetSearchCV` trains every fold four times, each time
# from different initial weights. We now use the plain `actlab.NeuralNet`, whose weights depend on the seed.

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
# The last column is the lead of ReLU over leaky ReLU. A table from one seed is one row of this table, and
# another seed gives another lead. Which row is right?
#
# ## A verdict
#
# `actlab.compare` answers this question. It trains every activation on the same folds, from the same weights,
# with the same batches, so these cannot cause a difference. With `until_decided` it analyses the results
# after two seeds, and adds seeds for the pairs that are still undecided. `tune=None` trains every activation
# with the settings of the notebook. We add a fourth function, the sigmoid.

# %%
start = time.perf_counter()
comparison = actlab.compare(
    ["relu", "tanh", "leaky_relu", "sigmoid"],
    data,
    epochs=EPOCHS,
    until_decided=True,
    tune=None,
)
print(
    f"{comparison.about['trained']} runs in {time.perf_counter() - start:.0f} s\n"
)
print("\n".join(comparison.sentences()))

# %%
plt.figure(figsize=(9, 2.6))
actlab.plot_comparison(comparison)
plt.show()

# %% [markdown]
# How to read it:
#
# - **equivalent**: with probability 0.95, the difference lies within the grey band. ReLU and leaky ReLU are
#   equivalent: the order of the two in a table is noise.
# - **worse** or **better**: the difference is real, for this model, these data and these settings. At most
#   5 % of such comparisons contain a wrong "better" or "worse". Sigmoid is worse than all others.
# - **undecided**: the data support neither. For tanh with these settings, this is the right answer.
#
# [The page on verdicts](../verdicts.md) explains how they are computed, and why an ordinary t-test over the
# same runs would be wrong in half of all comparisons.
#
# ## A verdict depends on the settings
#
# With 25 epochs on MNIST instead of five, the answer for tanh changes. It learns fast at first, and then the
# other two overtake it: **tanh is worse than ReLU** by a quarter of a percentage point. It takes 72 runs to
# decide this. ReLU and leaky ReLU stay equivalent. [The same page](../verdicts.md) shows that comparison.
# [The reproduction](../reproduction.md) shows that with three folds and one seed, the order of the two
# depends on the seed.
#
# So compare with the model, the data and the number of epochs that you will use.
#
# ## Why sigmoid is worse
#
# `compare` collects diagnostics during training. This table shows the size of the gradient (root mean square)
# of each layer's weights in the first recorded epoch, from the first layer to the last.

# %%
weights = comparison.diagnostics.query("part == 'weights'")
first = weights[weights["epoch"] == weights["epoch"].min()]
sizes = first.pivot_table(
    index="activation", columns="name", values="gradient", aggfunc="mean"
)
sizes.assign(first_over_last=sizes.iloc[:, 0] / sizes.iloc[:, -1]).round(5)

# %% [markdown]
# The last column is the share of the last layer's gradient that reaches the first layer. The derivative of
# sigmoid is at most 1/4, so each sigmoid removes at least three quarters of a gradient. To see
# [deeper networks](../depth.md), drag the depth in the page that `actlab.explore("sigmoid", "relu")` shows.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
actlab.plot_history(comparison, axes[0], metric="train_loss")
actlab.plot_history(comparison, axes[1], metric="valid_acc")
plt.show()

# %% [markdown]
# The lines are means over all runs. The bands reach from the lowest to the highest run. ReLU and leaky ReLU
# nearly coincide.
#
# All runs as an interactive plot, one line per run (this site shows a picture of it):

# %% tags=["photograph"]
comparison.to_hiplot().display(force_full_width=True)

# %% [markdown]
# ## A difference that was a setting
#
# The learning rate and the initial weights of this notebook suit ReLU. Do they suit sigmoid? Without
# `tune=None`, `compare` lets every run choose its learning rate and its initialization on the validation
# samples. It also trains every network with the settings as given, so we get both verdicts.

# %%
fair = actlab.compare(
    ["relu", "tanh", "leaky_relu", "sigmoid"], data, epochs=EPOCHS, seeds=2
)
print("\n".join(fair.sentences()[:2]))
means = fair.ranking.set_index("activation")[["mean"]]
means.assign(as_given=fair.as_given.ranking.set_index("activation")["mean"])

# %% [markdown]
# Which settings did the runs choose?

# %%
choices = fair.results.groupby("activation")[["lr", "init"]]
choices.value_counts().unstack(fill_value=0)

# %% [markdown]
# The weights of `matched` are scaled for each activation, so that the outputs of every layer have the same
# size. Together with a larger learning rate, they remove nearly all of the difference: **the settings
# caused most of the difference, not the sigmoid.** A comparison without tuning measures how well the settings suit
# each activation.
#
# ## A difference that was real
#
# Does tuning remove every difference? On the [task](../guide/tasks.md) `image-fitting`, a network maps the
# coordinates of a pixel to its colour in a photograph. The scores are R², and `sine(omega=3)` is $\sin(3x)$.

# %%
real = actlab.compare_tasks(
    ["relu", "sine(omega=3)"], ["image-fitting"], folds=5, seeds=2
).comparisons["image-fitting"]
print("\n".join(real.sentences()[:3]))

# %% [markdown]
# Both were tuned, and ReLU is still worse: **tuning does not remove this difference.** Perhaps it helps
# that a sine oscillates, while a unit of ReLU has one kink. The verdict is about this image, this network and
# 60 epochs, after which ReLU had not converged. On digits, sine with its default $\omega = 30$
# [stays at chance level](../fair.md) with every setting that was tried.
#
# `comparison.to_csv("folder")` writes all tables.
# `actlab compare relu tanh leaky_relu sigmoid --data digits --until-decided` does the same on the command
# line and writes [a report](../report.md). [The guide](../guide/compare.md) describes more options.
#
# Next: [invent one](05_invent.ipynb).
