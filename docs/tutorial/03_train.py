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
# # 3. Train with it
#
# A net with the ReLU that we have written by hand, trained with [skorch](https://skorch.readthedocs.io),
# and four ways to read what happened: a table, a picture, sentences, and lines to brush.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
import torch
from skorch import NeuralNetClassifier
from torch import nn

import actlab
from actlab.integrations import to_hiplot
from actlab.report import history_insights
from actlab.training import history_frame

name = os.environ.get("ACTLAB_TUTORIAL", "digits")
data = actlab.load_data(
    name, os.environ.get("ACTLAB_MNIST") if name == "mnist" else None
)
torch.set_num_threads(1)


# %% [markdown]
# The ReLU of [the lesson before](02_by_hand.ipynb), mended.


# %%
class ReLUFunction(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        (x,) = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x > 0)


class ReLU(nn.Module):
    def forward(self, x):
        return ReLUFunction.apply(x)


# %% [markdown]
# ## The data
#
# Images of handwritten digits, a row each. `load_data` brings all pixels together to mean 0 and standard
# deviation 1, and the labels to whole numbers from 0.

# %%
print(data)
print(f"mean {data.X.mean():.4f}, standard deviation {data.X.std():.4f}")

side = data.shape[-1]
figure, axes = plt.subplots(1, 10, figsize=(10, 1.4), layout="constrained")
for ax, row, label in zip(axes, data.X, data.y, strict=False):
    ax.imshow(row.reshape(side, side), cmap="gray_r")
    ax.set_title(label)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## The net
#
# `actlab.NeuralNet` is a perceptron with two hidden layers of 128 and 64 units and an activation after each
# of them. skorch wraps it into an estimator of scikit-learn's kind: 25 epochs of stochastic gradient
# descent with momentum 0.95, in steps of 128 rows. A fifth of the rows is held back, and the net is
# validated on them after each epoch.

# %%
torch.manual_seed(0)
net = NeuralNetClassifier(
    actlab.NeuralNet,
    module__activation=ReLU(),
    module__num_features=data.num_features,
    module__num_classes=data.num_classes,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.95,
    lr=0.01,
    batch_size=128,
    max_epochs=25,
)
net.fit(data.X, data.y)

# %% [markdown]
# In colour is what was never better before. Watch where the training loss goes on being coloured and the
# validation loss does not.
#
# ## As a table
#
# skorch keeps a history: what it printed, and more.

# %%
pd.DataFrame(net.history).columns.to_list()

# %% [markdown]
# `history_frame` takes from it what belongs to an epoch as a whole.

# %%
history = history_frame(net)
history.drop(columns="dur").tail()

# %% [markdown]
# ## As a picture

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
actlab.plot_history(history, axes[0])
actlab.plot_history(history, axes[1], metric="valid_acc")
plt.show()

# %% [markdown]
# The training loss falls all the way: the net learns its training rows ever better. What counts is the
# validation loss, on rows that it has not seen. Where that has stopped falling while the other goes on, the
# net *overfits*: it learns its training rows by heart.
#
# The two curves at the left need not agree with the one at the right. Accuracy counts which class comes
# first; the loss also counts how sure the net was. A net that grows too sure of its mistakes has a rising
# loss and the same accuracy.
#
# ## In sentences
#
# Where is the best epoch, does it overfit and from when, and when could one have stopped? That can be read
# off the numbers.

# %%
for sentence in history_insights(history):
    print(sentence)

# %% [markdown]
# Read them with care. They speak of one net and one split. From one epoch to the next the accuracy on
# held-back rows moves by some rows more or less, so the best epoch is partly luck: another seed has another
# one.

# %%
print(
    f"rows held back: {len(data.y) // 5}, so one row more or less is {5 / len(data.y):.2%}"
)
moved = history["valid_acc"].diff().abs().tail(5).mean()
print(f"in the last five epochs accuracy moved by {moved:.2%} on average")

# %% [markdown]
# On the command line, `actlab train --data digits` does all of this: it trains the same net, prints the
# table and the sentences, and writes tables and [a page](../report.md).
#
# ## With lines to brush
#
# [HiPlot](https://github.com/facebookresearch/hiplot) draws each epoch as a line through all its numbers.
# Drag along an axis to keep only the lines that pass there. (In a notebook the cell shows the page itself;
# here stands a picture of it.)

# %% tags=["photograph"]
to_hiplot(history.drop(columns="dur").to_dict("records")).display(
    force_full_width=True
)

# %% [markdown]
# Brush the upper end of `valid_acc`: the epochs that remain are late ones, with a low `train_loss`; whether
# their `valid_loss` is low as well is what tells learning from overfitting.
#
# One net with one activation says little about the activation. Next: [which one is
# better?](04_compare.ipynb)
