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
# # 6. Your own activation, data and network
#
# This lesson uses none of the activations, datasets and networks that come with actlab. It defines an
# activation class in a cell, reads a table from a CSV file and uses a custom network. Replace each of them
# with your own.

# %%
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_wine
from torch import nn

import actlab

torch.set_num_threads(1)

# %% [markdown]
# ## An activation
#
# Any class derived from `nn.Module`, any function of a tensor and any `autograd.Function` can be compared.
# This one has a parameter that is trained with the network.


# %%
class Snake(nn.Module):
    """x + sin(a x)^2 / a, with a trained parameter a."""

    def __init__(self, a=1.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return x + torch.sin(self.a * x) ** 2 / self.a


# %% [markdown]
# First check it. The full report is `print(report)`.

# %%
report = actlab.check(Snake(), skip=["compile", "export"])
print(f"passed: {report.passed}")

# %% [markdown]
# ## A table
#
# This cell writes a CSV file like those you may have: scikit-learn's wine data with an identifier, a text
# column, dates and missing values.

# %%
wine = load_wine(as_frame=True).frame
random = np.random.default_rng(0)
wine.insert(0, "bottle", [f"W{number:04d}" for number in range(len(wine))])
wine["shelf"] = random.choice(["upper", "lower"], len(wine))
wine["bottled"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(
    random.integers(0, 700, len(wine)), "D"
)
wine.loc[random.random(len(wine)) < 0.1, "proline"] = np.nan
wine = wine.rename(columns={"target": "cultivar"})
wine.to_csv("wine.csv", index=False)

# %%
table = pd.read_csv("wine.csv")
table.head()

# %% [markdown]
# ## Compare
#
# The columns have different units. actlab scales each column, replaces missing values and encodes the text
# columns. It fits these steps on the training samples of each fold only.

# %%
comparison = actlab.compare(
    [Snake(), nn.ReLU(), torch.tanh], table, target="cultivar", seeds=2
)
comparison

# %% [markdown]
# `print` shows the same summary in a terminal:

# %%
print(comparison)

# %% [markdown]
# The networks have trained the parameter of `Snake`:

# %%
comparison.parameters.groupby(["layer", "name"])["value"].agg(
    ["mean", "std"]
).round(2)

# %% [markdown]
# ## A network
#
# Your network gets the activation through an argument such as `activation`. If it has no such argument,
# `actlab.swap` replaces its activations.


# %%
class Net(nn.Module):
    """A network with a skip connection."""

    def __init__(self, num_features, num_classes, activation):
        super().__init__()
        self.first = nn.Linear(num_features, 32)
        self.second = nn.Linear(32, 32)
        self.last = nn.Linear(32, num_classes)
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.first(x))
        return self.last(x + self.activation(self.second(x)))


comparison = actlab.compare(
    [Snake(), nn.ReLU(), torch.tanh], table, target="cultivar", module=Net, seeds=2
)
print(comparison)

# %% [markdown]
# ## Keep the result
#
# The report is one HTML file with the verdicts, the settings and the charts. `to_markdown` and `to_latex`
# return a table for a paper.

# %%
comparison.report("wine.html")
print(comparison.to_markdown())

# %% [markdown]
# This is the end of the course. You can write an activation, verify it, train with it, and state what you
# know about it and what you do not know. Continue with [the guide](../guide/compare.md) and
# [the function pages](../functions/relu.md).
