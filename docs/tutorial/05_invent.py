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
# ReLU is half the sum of $x$ and $|x|$. Its kink comes from $|x| = \sqrt{x^2}$, and $\sqrt{x^2 + 1}$ is a
# similar curve without a kink. So
#
# $$f(x) = \tfrac12\left(x + \sqrt{x^2 + 1} - 1\right)$$
#
# should be a ReLU without a kink, with $f(0) = 0$. (Without the $-1$ it is known as *squareplus*: J. Barron,
# "Squareplus: a softplus-like algebraic rectifier", 2021.)
#
# ## Write it
#
# We first implement it directly.


# %%
def naive(x):
    return (x + torch.sqrt(x * x + 1) - 1) / 2


report = actlab.check(naive, skip=["compile", "export"])
print(f"passed: {report.passed}")
for row in report.rows:
    if row.status == "fail":
        print(f"{row.name}: {row.detail}")

# %% [markdown]
# The idea is good, but the arithmetic is not. The square of a large $x$ overflows long before $x$ does, in
# float16 from 256 on. For very negative $x$ the root is close to $-x$, and the two cancel. Near 0 the root and
# 1 cancel.
#
# Now we write the same function as a formula. `actlab.formula` computes both derivatives, tries several
# equivalent expressions for the value and the derivatives, and selects accurate ones.

# %%
smooth = actlab.formula("(x + sqrt(x**2 + 1) - 1) / 2", name="smooth_relu")
print(smooth.source())

# %% [markdown]
# This is the definition as Python code, ready to be pasted into a file. Here are its plots and its formulas:

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
# `reference` compares every value with the formula, evaluated to fifty digits, so the expected values do not
# come from the code that is checked.
#
# ## Time it
#
# The table shows nanoseconds per element, forward and backward, and the bytes saved for backward.

# %%
print(actlab.measure([smooth, "relu", "softplus"], shape=(256, 256)))

# %% [markdown]
# ReLU is one comparison; a function with a square root cannot be as fast. If speed matters,
# `with actlab.fused():` compiles each pass into one kernel.
#
# ## Compare it
#
# In a comparison, write `formula:` in front of the text of the formula. Some inventions win only because the
# usual learning rate happens to suit them. Here, every activation gets its own learning rate and
# initialization.

# %%
SMOOTH = "formula:(x + sqrt(x**2 + 1) - 1) / 2"
comparison = actlab.compare(
    ["relu", "softplus", SMOOTH], data, epochs=EPOCHS, seeds=2
)
print("\n".join(comparison.sentences()))

# %%
plt.figure(figsize=(9, 2.4))
actlab.plot_comparison(comparison)
plt.show()

# %% [markdown]
# This answer holds only for this model, these data and this number of epochs.
#
# If the verdict is *undecided* or *equivalent*, you have learnt something that most tables of results do not
# show.
#
# Next: [your own activation, data and network](06_your_own.ipynb).
