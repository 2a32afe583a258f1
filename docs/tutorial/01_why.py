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
# A neural net is a row of linear layers with something between them. This lesson shows what goes wrong
# without that something, what it does to the data on the way forward, and what it does to the gradient on
# the way back.
#
# The five notebooks run as they stand, on scikit-learn's digits, in about a minute altogether. With
# `ACTLAB_TUTORIAL=mnist` in the environment they use MNIST instead, and take some ten minutes;
# `ACTLAB_MNIST` is the folder with its files, which are downloaded when it is not set. The outputs on these
# pages come from MNIST.

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
torch.set_num_threads(1)  # nets this small gain nothing from more
data

# %% [markdown]
# ## Two linear layers are one
#
# Put a linear layer after another:
#
# $$W_2(W_1 x + b_1) + b_2 = (W_2 W_1)\,x + (W_2 b_1 + b_2).$$
#
# That is a linear layer again, with the weights $W_2 W_1$. Depth adds parameters and nothing else: whatever
# the two can do, one alone can do. Here it is in numbers.

# %%
torch.manual_seed(0)
first, second = nn.Linear(2, 5), nn.Linear(5, 1)
x = torch.randn(4, 2)

weight = second.weight @ first.weight
bias = second.weight @ first.bias + second.bias
print("two layers:", second(first(x)).flatten().tolist())
print("one layer: ", (x @ weight.T + bias).flatten().tolist())

# %% [markdown]
# ## A data set that no line divides
#
# Four clouds of points at the corners of a square. Opposite corners have the same class: this is the
# *exclusive or*. Whatever straight line you draw, points of both classes lie on one side of it.

# %%
rng = np.random.default_rng(0)
corners = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]])
points = torch.tensor(
    np.repeat(corners, 50, axis=0) + 0.25 * rng.normal(size=(200, 2)),
    dtype=torch.float32,
)
classes = torch.tensor([0.0] * 100 + [1.0] * 100)

# %% [markdown]
# Two nets learn it, both with eight units in the middle. One has nothing between its layers, the other a
# ReLU, $\max(x, 0)$.


# %%
def trained(activation):
    """Return a net 2 -> 8 -> 1 that has learnt the points."""
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


def right(net):
    """Return the share of the points that a net has right."""
    return float(((net(points)[:, 0] > 0) == (classes == 1)).float().mean())


linear, bent = trained(nn.Identity()), trained(nn.ReLU())
print(f"linear: {right(linear):.1%} right, ReLU: {right(bent):.1%} right")

# %% [markdown]
# No linear net gets further than three corners out of four, however many units it has. How does ReLU help?
# With eight units that is hard to see, but two are enough, if we choose their weights ourselves:
#
# $$h_1 = \max(x_1 - x_2,\,0), \qquad h_2 = \max(x_2 - x_1,\,0), \qquad y = h_1 + h_2 - 1.$$

# %%
two = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
with torch.no_grad():
    two[0].weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    two[0].bias.zero_()
    two[2].weight.fill_(1.0)
    two[2].bias.fill_(-1.0)
print(f"two units, weights by hand: {right(two):.1%} right")

# %% tags=["hide-input"]
COLOURS = np.array(["#0072b2", "#d55e00"])
ticks = torch.linspace(-2, 2, 201)
plane = torch.cartesian_prod(ticks, ticks)


def scatter(ax, at):
    """Draw the points, at their places or where a layer puts them."""
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
    """Draw which class a net gives to each place of the plane."""
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
regions(axes[0, 1], bent, "trained, with ReLU")
regions(axes[1, 0], two, "two units of ReLU, by hand")
scatter(axes[1, 1], two[:2](points))
axes[1, 1].plot([-0.2, 1.2], [1.2, -0.2], color="0.2", linewidth=1.5)
axes[1, 1].text(1.05, 0.45, "$h_1 + h_2 = 1$", color="0.2")
axes[1, 1].set(
    title="what its last layer sees", xlabel="$h_1$", ylabel="$h_2$", aspect="equal"
)
plt.show()

# %% [markdown]
# The last picture is the point of the whole lesson. It shows the same 200 points as the two units give them
# to the last layer. The last layer is linear, and can do no more than draw a straight line. But the layer
# before has *folded* the plane: what was negative is cut off, two opposite corners have come to lie
# together, and now a line is enough. Seen from the input, that one line is the two borders in the picture
# beside it.
#
# ReLU itself learns nothing. It is a fixed function, the same before and after training. What a net learns
# are the linear weights: they look for a representation of the data which, once it is cut, is easy to
# divide.

# %% [markdown]
# ## A line, bent
#
# In one dimension one can see the parts. A unit computes $\max(ax + b, 0)$: a line with one bend, at
# $-b/a$. A second linear layer adds such lines up, so $n$ units make a curve of at most $n$ bends.

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
    axes, ["a line and its bend", "three units", "their sum"], strict=True
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
# Forward, ReLU is a gate for values: what is above 0 passes unchanged, the rest becomes 0. Backward, it is
# a gate for gradients: where the value passed, the gradient passes unchanged; where the value was cut, the
# gradient is cut. For an input that was cut does not move the output, so the loss does not depend on it.

# %% tags=["hide-input"]
torch.manual_seed(3)
z = (2 * torch.randn(4, 4)).round(decimals=1).requires_grad_()
incoming = torch.randn(4, 4).round(decimals=1)
out = torch.relu(z)
out.backward(incoming)

panels = [
    ("input $z$", z),
    (r"forward: $\max(z, 0)$", out),
    ("gradient that comes in", incoming),
    ("backward: gradient that goes on", z.grad),
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
# Where the first panel is negative, the second and the fourth are 0. To know which entries these are, the
# backward pass needs something that the forward pass has seen: the input, or the output. Keeping it until
# then is the price of an activation in memory.
#
# ## Three shapes that are one
#
# An activation is applied to each element by itself. So its output has the shape of its input, and the
# gradient that comes back has it too:
#
# `input.shape == output.shape == gradient.shape`
#
# Take the first 128 rows of the data and the first layer of the net of the lessons to come.

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
# The two shares agree: the gates forward and backward are the same gate.
#
# Each output depends on its own input alone, so the matrix of all derivatives has nothing off its diagonal.

# %%
z = torch.tensor([-2.0, -0.5, 0.5, 2.0])
torch.func.jacrev(torch.tanh)(z)

# %% [markdown]
# Multiplying by a diagonal matrix is multiplying element by element. So the chain rule, in general a
# product of matrices, is for an activation $f$ only
#
# $$\frac{\partial L}{\partial z} = \frac{\partial L}{\partial f(z)} \odot f'(z),$$
#
# and $f'$ is all that has to be written for the backward pass.
#
# One thing an activation does *not* do: it does not spread over a sum. $f(a + b)$ is not $f(a) + f(b)$, and
# this is just why it helps. A function that did would be linear.

# %%
a, b = torch.tensor(-1.0), torch.tensor(2.0)
print(
    "relu(a + b) =",
    torch.relu(a + b).item(),
    "   relu(a) + relu(b) =",
    (torch.relu(a) + torch.relu(b)).item(),
)

# %% [markdown]
# ## Common shapes
#
# The four that the next lessons write, train and compare, each with its derivative. These pictures come
# from the definitions themselves; every function of the catalogue has one, on [its
# page](../functions/relu.md).

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
for ax, function in zip(
    axes.flat, ["relu", "leaky_relu", "sigmoid", "tanh"], strict=True
):
    actlab.plot_function(function, ax)
plt.show()

# %% [markdown]
# Next: [ReLU by hand](02_by_hand.ipynb), forward and backward, and how to find out whether it is right.
