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
# We train a model with our own ReLU and [skorch](https://skorch.readthedocs.io). Then we look at its history
# in four ways: a table, a plot, sentences, and an interactive plot.

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
# This is the corrected ReLU of [the previous lesson](02_write_relu.ipynb).


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
# The data are images of handwritten digits, one per row. `load_data` scales all pixels together to mean 0 and
# standard deviation 1, and encodes the labels as integers from 0.

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
# ## The model
#
# `actlab.NeuralNet` is a perceptron with two hidden layers of 128 and 64 units, each followed by the
# activation. skorch wraps it into a scikit-learn estimator. We train for 25 epochs with stochastic gradient
# descent, momentum 0.95 and batches of 128 samples. skorch reserves a fifth of the samples and validates the
# model on them after each epoch.

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
# skorch colours a value if it is better than all earlier values. In the last epochs, the training loss is
# still coloured and the validation loss is not.
#
# ## As a table
#
# skorch keeps a history of the printed values and of some others.

# %%
pd.DataFrame(net.history).columns.to_list()

# %% [markdown]
# `history_frame` returns the columns that have one value per epoch.

# %%
history = history_frame(net)
history.drop(columns="dur").tail()

# %% [markdown]
# ## As a plot

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
actlab.plot_history(history, axes[0])
actlab.plot_history(history, axes[1], metric="valid_acc")
plt.show()

# %% [markdown]
# The training loss falls until the end: the model fits its training samples better and better. The validation
# loss is more important, because it is measured on samples that the model was not trained on. Where the
# validation loss no longer falls while the training loss does, the model *overfits*: it memorizes its
# training samples.
#
# The two plots need not agree. Accuracy depends only on which class has the highest output. The loss also
# depends on how confident the model was. A model that becomes more confident in its mistakes has a rising
# loss and the same accuracy.
#
# ## In sentences
#
# Which epoch is best? Does the model overfit, and if so, from which epoch? When could training have stopped?
# actlab derives the answers from the history.

# %%
for sentence in history_insights(history):
    print(sentence)

# %% [markdown]
# Read these sentences with care. They describe one model and one split. The accuracy on the validation
# samples changes by a few samples from one epoch to the next, so the best epoch is partly chance. With
# another seed, another epoch would be best.

# %%
print(
    f"validation samples: {len(data.y) // 5}, so one sample is {5 / len(data.y):.2%}"
)
moved = history["valid_acc"].diff().abs().tail(5).mean()
print(f"in the last five epochs the accuracy changed by {moved:.2%} on average")

# %% [markdown]
# On the command line, `actlab train --data digits` does all of this. It trains the same model, prints the
# table and the sentences, and writes tables and [a report page](../report.md).
#
# ## As an interactive plot
#
# [HiPlot](https://github.com/facebookresearch/hiplot) draws each epoch as a line through all its values. Drag
# along an axis to select lines. (The notebook shows the interactive page. This site shows a picture of it.)

# %% tags=["photograph"]
to_hiplot(history.drop(columns="dur").to_dict("records")).display(
    force_full_width=True
)

# %% [markdown]
# Select the upper end of `valid_acc`. The remaining epochs are late ones with a low `train_loss`. If their
# `valid_loss` is low, too, the model has learnt. If not, it overfits.
#
# One model with one activation says little about the activation. Next: [which one is better?](04_compare.ipynb)
