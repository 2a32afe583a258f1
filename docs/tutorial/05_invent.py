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
# # 5. Invent one
#
# From an idea to an answer in four steps: write it, check it, time it, compare it.

# %%
import os

import matplotlib.pyplot as plt
import torch
from IPython.display import Math, display

import actlab

name = os.environ.get("ACTLAB_TUTORIAL", "digits")
data = actlab.load_data(
    name, os.environ.get("ACTLAB_MNIST") if name == "mnist" else None
)
EPOCHS = 5 if name == "mnist" else 20
torch.set_num_threads(1)

# %% [markdown]
# ## An idea
#
# ReLU is half the sum of $x$ and $|x|$. Its bend comes from $|x| = \sqrt{x^2}$, and $\sqrt{x^2 + 1}$ is the
# same curve with a round bottom. So
#
# $$f(x) = \tfrac12\left(x + \sqrt{x^2 + 1} - 1\right)$$
#
# should be a ReLU without a bend, with $f(0) = 0$. (Without the $-1$ it is known as *squareplus*: J.
# Barron, "Squareplus: a softplus-like algebraic rectifier", 2021.)
#
# ## Write it
#
# First as anybody would.


# %%
def naive(x):
    return (x + torch.sqrt(x * x + 1) - 1) / 2


report = actlab.check(naive, skip=["compile", "export"])
print(f"passed: {report.passed}")
for row in report.rows:
    if row.status == "fail":
        print(f"{row.name}: {row.detail}")

# %% [markdown]
# It is a good idea with bad digits. Of a large $x$ the square is infinite long before $x$ is, in float16
# from 256 on. For a very negative $x$ the root is nearly $-x$ and the two cancel; near 0 the root and 1 do.
#
# The same as a formula. `actlab.formula` derives both derivatives, tries ways of computing all three that
# are algebraically the same, and keeps those that keep their digits.

# %%
smooth = actlab.formula("(x + sqrt(x**2 + 1) - 1) / 2", name="smooth_relu")
print(smooth.source())

# %% [markdown]
# That is the definition as Python, to be pasted into a file. As pictures and as mathematics:

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
actlab.plot_function(smooth, axes[0])
actlab.plot_function("relu", axes[1])
plt.show()

# %%
for symbol, latex in zip(("f", "f'", "f''"), smooth.latex(), strict=True):
    display(Math(f"{symbol}(x) = {latex}"))

# %% [markdown]
# ## Check it

# %%
report = actlab.check(
    smooth, skip=["compile", "export"], reference="(x + sqrt(x**2 + 1) - 1) / 2"
)
print(report)

# %% [markdown]
# `reference` has every value compared with the formula in fifty digits: nothing is measured against itself.
#
# ## Time it
#
# Nanoseconds for each element forward and backward, and the bytes that are kept for the backward pass.

# %%
print(actlab.measure([smooth, "relu", "softplus"], shape=(256, 256)))

# %% [markdown]
# ReLU is one comparison; nothing that has a root in it will be as fast. Where that counts,
# `with actlab.fused():` makes one compiled kernel of each pass.
#
# ## Compare it
#
# In a comparison a formula is named by itself, after `formula:`.

# %%
SMOOTH = "formula:(x + sqrt(x**2 + 1) - 1) / 2"
comparison = actlab.compare(
    ["relu", "softplus", SMOOTH], data, epochs=EPOCHS, seeds=4
)
print("\n".join(comparison.sentences()))

# %%
plt.figure(figsize=(9, 2.4))
actlab.plot_comparison(comparison)
plt.show()

# %% [markdown]
# Whatever stands here is the answer to one question: for this net, on these data, with this learning rate.
# Some inventions win because the usual learning rate happens to suit them. To be fair, give each its own
# best, chosen on training rows only: `tune={"lr": [0.003, 0.01, 0.03]}` in `actlab.compare`, or `--tune` on
# the command line.
#
# And if the word is *undecided* or *equivalent*, you have learnt something that most tables of results do
# not tell.
#
# That is the whole course: you can write an activation, prove it, train with it, and say what you know
# about it and what you do not. [The guide](../guide/compare.md) goes on from here; [the pages of
# functions](../functions/relu.md) have fifty more.
