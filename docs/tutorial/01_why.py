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
# # 1. What an activation does
#
# A neural network is a sequence of linear layers with an activation between them. This lesson shows what
# happens without an activation, what an activation does to the data in the forward pass, and what it does to
# the gradient in the backward pass.
#
# The lessons use scikit-learn's digits and take about a minute in total. With `ACTLAB_TUTORIAL=mnist`
# in the environment they use MNIST and take about ten minutes. `ACTLAB_MNIST` is the folder with MNIST's
# files; if it is not set, they are downloaded. The outputs on these pages come from MNIST.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import actlab

name = os.environ.get("ACTLAB_TUTORIAL", "digits")
data = actlab.load_data(
    name, os.environ.get("ACTLAB_MNIST") if name == "mnist" else None
)
torch.set_num_threads(1)  # small models gain nothing from more
data

# %% [markdown]
# ## Two linear layers are one
#
# Put one linear layer after another:
#
# $$W_2(W_1 x + b_1) + b_2 = (W_2 W_1)\,x + (W_2 b_1 + b_2).$$
#
# The result is a linear layer with the weights $W_2 W_1$. The second layer adds parameters, but the two
# layers together compute nothing that one layer cannot. Here are the numbers.

# %%
torch.manual_seed(0)
first, second = nn.Linear(2, 5), nn.Linear(5, 1)
x = torch.randn(4, 2)

weight = second.weight @ first.weight
bias = second.weight @ first.bias + second.bias
print("two layers:", second(first(x)).flatten().tolist())
print("one layer: ", (x @ weight.T + bias).flatten().tolist())

# %% [markdown]
# ## A dataset that no line separates
#
# Four clusters of points lie at the corners of a square. Opposite corners have the same class. This is the
# *exclusive or*. No straight line separates the two classes.

# %%
rng = np.random.default_rng(0)
corners = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]])
points = torch.tensor(
    np.repeat(corners, 50, axis=0) + 0.25 * rng.normal(size=(200, 2)),
    dtype=torch.float32,
)
classes = torch.tensor([0.0] * 100 + [1.0] * 100)

# %% [markdown]
# Two networks with eight hidden units learn this dataset. One has no activation between its layers, the other
# has a ReLU, $\max(x, 0)$.


# %%
def train(activation):
    """Train a network 2 -> 8 -> 1 on the points."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), activation, nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(
            net(points)[:, 0], classes
        ).backward()
        optimizer.step()
    return net


def accuracy(net):
    """Return the share of the points that a network classifies correctly."""
    return float(((net(points)[:, 0] > 0) == (classes == 1)).float().mean())


linear, with_relu = train(nn.Identity()), train(nn.ReLU())
print(
    f"linear: {accuracy(linear):.1%} correct, ReLU: {accuracy(with_relu):.1%} correct"
)

# %% [markdown]
# A linear network classifies at most three of the four corners correctly, no matter how many units it has.
# How does ReLU help? This is hard to see with eight units. But two units are enough if we choose their
# weights:
#
# $$h_1 = \max(x_1 - x_2,\,0), \qquad h_2 = \max(x_2 - x_1,\,0), \qquad y = h_1 + h_2 - 1.$$

# %%
two = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
with torch.no_grad():
    two[0].weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    two[0].bias.zero_()
    two[2].weight.fill_(1.0)
    two[2].bias.fill_(-1.0)
print(f"two units, chosen weights: {accuracy(two):.1%} correct")

# %% tags=["hide-input"]
COLOURS = np.array(["#0072b2", "#d55e00"])
ticks = torch.linspace(-2, 2, 201)
plane = torch.cartesian_prod(ticks, ticks)


def scatter(ax, at):
    """Draw the points, or what a layer makes of them."""
    at = at.detach().numpy()
    ax.scatter(
        *at.T,
        s=12,
        c=COLOURS[classes.int().numpy()],
        edgecolors="white",
        linewidths=0.3,
        zorder=3,
    )


def regions(ax, net, title):
    """Draw the class that a network predicts at each point of the plane."""
    with torch.no_grad():
        logits = net(plane).reshape(201, 201).T.numpy()
    ax.contourf(
        ticks,
        ticks,
        logits,
        levels=[-1e9, 0, 1e9],
        colors=COLOURS.tolist(),
        alpha=0.2,
    )
    scatter(ax, points)
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


figure, axes = plt.subplots(2, 2, figsize=(8, 7.6), layout="constrained")
regions(axes[0, 0], linear, "trained, without an activation")
regions(axes[0, 1], with_relu, "trained, with ReLU")
regions(axes[1, 0], two, "two units with chosen weights")
scatter(axes[1, 1], two[:2](points))
axes[1, 1].plot([-0.2, 1.2], [1.2, -0.2], color="0.2", linewidth=1.5)
axes[1, 1].text(1.05, 0.45, "$h_1 + h_2 = 1$", color="0.2")
axes[1, 1].set(
    title="input of its last layer", xlabel="$h_1$", ylabel="$h_2$", aspect="equal"
)
plt.show()

# %% [markdown]
# The last plot is the main point of this lesson. It shows the same 200 points after the first layer and
# ReLU, where they are the input of the last layer. The last layer is linear: it can only separate its input
# by a straight line. The layer before it has *folded* the plane. Negative values are set to 0, so two
# opposite corners lie at the same place, and one line is enough. In the input space, this line corresponds
# to the two boundaries in the plot to the left.
#
# ReLU itself learns nothing. It is a fixed function, the same before and after training. The network learns
# its linear weights, and with them a representation of the data that is easy to separate after ReLU.

# %% [markdown]
# ## A line with kinks
#
# In one dimension, the contribution of each unit is visible. A unit computes $\max(ax + b, 0)$, a line with
# one kink at $-b/a$. The second linear layer adds up such lines, so $n$ units give a curve with at most $n$
# kinks.

# %% tags=["hide-input"]
t = torch.linspace(-3, 3, 601)
parts = [
    (1.0, 2.0, 1.5),
    (1.0, 0.5, -3.0),
    (1.0, -1.5, 3.0),
]  # a, b and the weight of the unit in the sum
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].plot(t, t + 0.5, color="0.6", linestyle="--", label="$x + 0.5$")
axes[0].plot(
    t, (t + 0.5).relu(), color="#0072b2", linewidth=2, label=r"$\max(x + 0.5,\,0)$"
)
for a, b, v in parts:
    axes[1].plot(
        t,
        v * (a * t + b).relu(),
        linewidth=1.8,
        label=rf"${v:g}\,\max(x {b:+g},\,0)$",
    )
axes[2].plot(
    t,
    sum(v * (a * t + b).relu() for a, b, v in parts),
    color="#0072b2",
    linewidth=2,
)
for ax, title in zip(
    axes, ["a line and its kink", "three units", "their sum"], strict=True
):
    ax.set(title=title, xlabel="$x$")
    ax.grid(color="0.92")
for ax in axes[:2]:
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="upper left" if ax is axes[0] else "lower left",
    )
plt.show()

# %% [markdown]
# ## Forward and backward: two gates
#
# In the forward pass, ReLU is a gate for values: positive values pass unchanged, the others become 0. In the
# backward pass, it is a gate for gradients: where the value passed, the gradient passes unchanged; elsewhere
# the gradient becomes 0. An input that was set to 0 does not change the output, so the loss does not depend on
# it.

# %% tags=["hide-input"]
torch.manual_seed(3)
z = (2 * torch.randn(4, 4)).round(decimals=1).requires_grad_()
incoming = torch.randn(4, 4).round(decimals=1)
out = torch.relu(z)
out.backward(incoming)

panels = [
    ("input $z$", z),
    (r"forward: $\max(z, 0)$", out),
    ("incoming gradient", incoming),
    ("backward: outgoing gradient", z.grad),
]
figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
for ax, (title, values) in zip(axes, panels, strict=True):
    ax.imshow(values.detach(), cmap="RdBu_r", vmin=-6, vmax=6)
    for row, column in np.ndindex(4, 4):
        ax.text(
            column, row, f"{values[row, column] + 0:g}", ha="center", va="center"
        )
    ax.set_title(title, fontsize="medium")
    ax.set_xticks([], [])
    ax.set_yticks([], [])
plt.show()

# %% [markdown]
# The second and fourth panels are 0 where the first is negative. The backward pass must know these positions.
# So it needs a tensor from the forward pass: the input or the output. This saved tensor is the memory cost of
# an activation.
#
# ## Three equal shapes
#
# An activation works on each element separately. The output and the gradient have the shape of the input:
#
# `input.shape == output.shape == gradient.shape`
#
# This cell uses the first 128 samples and the first layer of the network in the next lessons.

# %%
torch.manual_seed(0)
batch = torch.from_numpy(data.X[:128])
z = nn.Linear(data.num_features, 128)(batch)
z.retain_grad()
out = torch.relu(z)
loss = nn.functional.cross_entropy(
    nn.Linear(128, data.num_classes)(out), torch.from_numpy(data.y[:128])
)
loss.backward()

print("input   ", tuple(z.shape))
print("output  ", tuple(out.shape))
print("gradient", tuple(z.grad.shape))
print(f"values that pass:    {(out > 0).float().mean():.1%}")
print(f"gradients that pass: {(z.grad != 0).float().mean():.1%}")

# %% [markdown]
# The two shares are equal: the forward gate and the backward gate are the same.
#
# Each output depends only on its own input, so the matrix of derivatives is diagonal.

# %%
z = torch.tensor([-2.0, -0.5, 0.5, 2.0])
torch.func.jacrev(torch.tanh)(z)

# %% [markdown]
# Multiplying by a diagonal matrix is the same as multiplying element by element. In general, the chain rule
# is a product of matrices. For an activation $f$ it is
#
# $$\frac{\partial L}{\partial z} = \frac{\partial L}{\partial f(z)} \odot f'(z),$$
#
# so a backward pass needs only $f'$.
#
# An activation is not additive: $f(a + b)$ is not $f(a) + f(b)$. This is why it helps. An additive function
# would be linear.

# %%
a, b = torch.tensor(-1.0), torch.tensor(2.0)
print(
    "relu(a + b) =",
    torch.relu(a + b).item(),
    "   relu(a) + relu(b) =",
    (torch.relu(a) + torch.relu(b)).item(),
)

# %% [markdown]
# ## Common activations
#
# The next lessons write, train and compare these four. Each plot shows the function and its derivative;
# `actlab.explore("relu", "tanh")` shows them in an interactive page. Every function has [a page](../functions/relu.md).

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for ax, function in zip(
    axes.flat, ["relu", "leaky_relu", "sigmoid", "tanh"], strict=True
):
    actlab.plot_function(function, ax)
plt.show()

# %% [markdown]
# Next: [write ReLU yourself](02_write_relu.ipynb), forward and backward, and find out whether it is right.
