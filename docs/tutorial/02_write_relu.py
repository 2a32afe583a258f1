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
# # 2. Write ReLU, and verify it
#
# PyTorch has ReLU. We write it anyway: if you can write one activation, you can write any. Then we check it:
# on paper, with PyTorch's own checker, and with a stricter one, which finds a common mistake.

# %%
import os

import torch
from torch import nn

import actlab

name = os.environ.get("ACTLAB_TUTORIAL", "digits")
data = actlab.load_data(
    name, os.environ.get("ACTLAB_MNIST") if name == "mnist" else None
)
torch.set_num_threads(1)

# %% [markdown]
# ## Three small functions
#
# A `torch.autograd.Function` is an operation with its own backward pass. It has three parts:
#
# - `forward` computes the output.
# - `setup_context` saves what the backward pass needs.
# - `backward` receives $\partial L/\partial y$, the gradient with respect to the output, and returns
#   $\partial L/\partial x$.
#
# The result of `backward` is the incoming gradient times the derivative, element by element. The derivative of
# ReLU is 1 or 0. So we copy the gradient and set it to 0 where the input was negative.


# %%
class ReLUFunction(torch.autograd.Function):
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
        grad_input = grad_output.clone()
        grad_input[x < 0] = 0
        return grad_input


# %% [markdown]
# Note three things. We save tensors with `save_for_backward`, not as attributes: PyTorch then frees them as
# early as possible and detects whether they are modified in the meantime. We copy the incoming gradient
# before we change it, because other operations may read it. And we save the *input*. Save only the input or
# the output, for a reason that we show below.
#
# Networks are made of modules, so we wrap the function in a module.


# %%
class ReLU(nn.Module):
    def forward(self, x):
        return ReLUFunction.apply(x)


# %% [markdown]
# ## On paper
#
# This network is small enough to compute every number on paper: two inputs, three units, one output, no
# biases.

# %%
first, second = nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False)
with torch.no_grad():
    first.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, -1.0], [2.0, -1.0]]))
    second.weight.copy_(torch.tensor([[2.0, 3.0, 4.0]]))

x = torch.ones(1, 2)
z = first(x)
h = ReLU()(z)
y = second(h)
print("z =", z.tolist(), "  h =", h.tolist(), "  y =", y.item())

# %% [markdown]
# With $x = (1, 1)$ the three units get $z = (1 + 2,\ -1 - 1,\ 2 - 1) = (3, -2, 1)$. ReLU sets the second to
# 0: $h = (3, 0, 1)$, and $y = 2\cdot 3 + 3\cdot 0 + 4\cdot 1 = 10$.
#
# In the backward pass, $\partial y/\partial h = (2, 3, 4)$, the weights of the second layer. The gate passes
# the first and third gradients, so $\partial y/\partial z = (2, 0, 4)$. The gradient of the first layer's
# weights is this vector times $x = (1, 1)$: a row of twos, a row of zeros, a row of fours.

# %%
y.backward()
first.weight.grad

# %% [markdown]
# This is what we computed. The unit with output 0 gets no gradient: this sample does not change it. A unit with
# output 0 for all samples is *dead*; `actlab.explore("relu")` counts dead units while it trains a network.
#
# ## With gradcheck
#
# `torch.autograd.gradcheck` compares a backward pass with finite differences,
# $(f(x + \varepsilon) - f(x - \varepsilon))/2\varepsilon$, in float64.

# %%
torch.manual_seed(0)
x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
torch.autograd.gradcheck(ReLUFunction.apply, x)

# %% [markdown]
# gradcheck returns `True` for these twenty points. It does not test float32, the dtype of training. It does
# not test very large or very small inputs, or the kink of ReLU: a random number is never exactly 0.
#
# ## With actlab
#
# `actlab.check` also tests these. It compares values and gradients with float64 over the whole range of each
# number format, finds kinks and jumps, tests the gradient there, and tries all other ways in which PyTorch
# can use a function. (We skip the two rows that run the compiler, because they take seconds.)

# %%
report = actlab.check(ReLUFunction, skip=["compile", "export"])
print(report)

# %% [markdown]
# One row fails, `kinks`: the gradient at 0 is 1. The derivative does not exist at the kink (move the pointer
# to 0 in `actlab.explore("relu")`). Any number from 0 to 1 is a valid choice. But this ReLU sets
# every input that is not *above* 0 to 0, so an input of 0 should get no gradient. PyTorch's ReLU returns 0
# there. Our code has `x < 0` where it should have `x <= 0`.
#
# Does this matter? Inputs of exactly 0 are rare, but some models produce them: a layer whose weights start at
# 0, a blank region of an image under a filter without bias, or the padding of a text sequence. There, the two
# functions train differently.

# %%
z = torch.zeros(3, requires_grad=True)
ReLUFunction.apply(z).sum().backward()
print("ours:   ", z.grad.tolist())

z.grad = None
torch.relu(z).sum().backward()
print("torch's:", z.grad.tolist())

# %% [markdown]
# Here is the corrected version, written as the gradient times the derivative. One more line,
# `generate_vmap_rule`, lets PyTorch apply the function to many models at once. The fourth lesson uses it.


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


corrected = actlab.check(ReLUFunction, skip=["compile", "export"])
print("kinks:", corrected.row("kinks").status)
print(corrected.text().splitlines()[0])

# %% [markdown]
# Nothing fails. An *unsupported* row is not a fault: the function raises an error instead of giving a wrong
# answer. A `Function` has no forward mode unless it defines `jvp`.
#
# ## Two versions of tanh
#
# $$\tanh x = \frac{e^x - e^{-x}}{e^x + e^{-x}}, \qquad \tanh' x = 1 - \tanh^2 x.$$
#
# The derivative needs only the output, so we save the output. That costs no memory, because the next layer
# saves it anyway as its input. First, the textbook formula.


# %%
class TextbookTanh(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        up, down = torch.exp(x), torch.exp(-x)
        return (up - down) / (up + down)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output * (1 - y * y)


textbook = actlab.check(TextbookTanh, skip=["compile", "export"])
for row in textbook.rows:
    if row.status == "fail":
        print(f"{row.name}: {row.detail}")

# %% [markdown]
# The formula is right and the program is wrong, in two places. For large $x$, $e^x$ is infinite and
# $\infty/\infty$ is NaN; in float32 this begins at 89. For small $x$ both exponentials are close to 1, and
# their difference has few correct digits, or none. gradcheck tries a few numbers of ordinary size in float64
# and finds neither.

# %%
print("gradcheck:", torch.autograd.gradcheck(TextbookTanh.apply, x))
print(
    "at 100:   ",
    TextbookTanh.apply(torch.tensor(100.0)).item(),
    " torch:",
    torch.tanh(torch.tensor(100.0)).item(),
)
print(
    "at 1e-8:  ",
    TextbookTanh.apply(torch.tensor(1e-8)).item(),
    " torch:",
    torch.tanh(torch.tensor(1e-8)).item(),
)

# %% [markdown]
# `torch.tanh` handles both. Only the forward pass has to change.


# %%
class TanhFunction(TextbookTanh):
    @staticmethod
    def forward(x):
        return torch.tanh(x)


print(actlab.check(TanhFunction, skip=["compile", "export"]).text().splitlines()[0])

# %% [markdown]
# ## Sigmoid and leaky ReLU
#
# For the sigmoid, $\sigma(x) = 1/(1 + e^{-x})$ and $\sigma' = \sigma(1 - \sigma)$. Again the output is
# enough. For negative inputs, the leaky ReLU multiplies the value, and in the backward pass the gradient,
# by a small slope: it is $x$ for positive $x$ and $0.01\,x$ otherwise. The slope is a second argument of
# `forward`, so `backward` returns a second value. It is None, because the slope has no gradient.


# %%
class SigmoidFunction(TextbookTanh):
    @staticmethod
    def forward(x):
        return torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output * y * (1 - y)


class LeakyReLUFunction(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, slope):
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.slope = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad_output, ctx.slope * grad_output), None


def leaky_relu(x):
    return LeakyReLUFunction.apply(x, 0.01)


for function in (SigmoidFunction, leaky_relu):
    print(actlab.check(function, skip=["compile", "export"]).text().splitlines()[0])

# %% [markdown]
# All four have the same gradients as PyTorch's own functions, in the network of the next lesson and on the
# first 128 samples.


# %%
def gradients(activation):
    torch.manual_seed(0)
    net = actlab.NeuralNet(
        activation=activation,
        num_features=data.num_features,
        num_classes=data.num_classes,
    )
    loss = nn.functional.cross_entropy(
        net(torch.from_numpy(data.X[:128])), torch.from_numpy(data.y[:128])
    )
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]
    )


pairs = {
    "ReLU": (ReLUFunction.apply, torch.relu),
    "Tanh": (TanhFunction.apply, torch.tanh),
    "Sigmoid": (SigmoidFunction.apply, torch.sigmoid),
    "LeakyReLU": (leaky_relu, nn.functional.leaky_relu),
}
for title, (ours, torchs) in pairs.items():
    print(
        f"{title:<10} largest difference {(gradients(ours) - gradients(torchs)).abs().max():.1e}"
    )

# %% [markdown]
# ## Save only the input or the output
#
# Why not compute the derivative in the forward pass and save it? Because a gradient can be differentiated
# again. PyTorch knows how the input and the output were computed, but it treats anything else that is saved
# as a constant. The second derivative is then silently wrong.


# %%
class SavesTheSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y * (1 - y))
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (slope,) = ctx.saved_tensors
        return grad_output * slope


at = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
for function in (SavesTheSlope, SigmoidFunction):
    (slope,) = torch.autograd.grad(function.apply(at) ** 2, at, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, at)
    print(
        f"{function.__name__:<15}  slope of f(x)^2 at 1: {slope:.6f}   its slope: {curvature:.6f}"
    )

report = actlab.check(SavesTheSlope, only=["first derivative", "second derivative"])
for row in report.rows:
    print(f"{row.name}: {row.status}")

# %% [markdown]
# By the chain rule the second derivative is $2\sigma'^2 + 2\sigma\sigma''$, about $-0.0555$ at 1. The first
# function gives only the first of the two terms, because it treats $\sigma'$ as a constant.

# %% [markdown]
# ## The same in a few lines
#
# These classes contain two formulas: the function and its derivative. An actlab definition contains the same
# two formulas and a few facts. The autograd node, the module and everything else follow from it.


# %%
@actlab.elementwise(
    formula="max(x, 0)",
    limits=(0, float("inf")),
    slopes=(0, 1),
    range=(0, float("inf")),
    monotonic=True,
    paper="Fukushima 1969",
    saves="output",
    kinks={0: 0},
)
def my_relu(x):
    """Rectified linear unit: ``x`` where positive, 0 elsewhere."""
    return x.clamp(min=0)


@my_relu.derivative
def _(y):
    return (y > 0).to(y.dtype)


MyReLU = my_relu.module("MyReLU")
print(actlab.check(my_relu, skip=["compile", "export"]).text().splitlines()[0])

# %% [markdown]
# Forward mode, `vmap` and second derivatives work: nothing is unsupported. `check` verifies the facts, plots
# use them, and they define the gradient at the kink.
#
# A formula is even shorter. actlab computes its derivatives, and it is an activation like any other.

# %%
leaky = actlab.formula("where(x > 0, x, 0.01*x)", name="my_leaky_relu")
print(actlab.check(leaky, skip=["compile", "export"]).text().splitlines()[0])

z = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
leaky(z).sum().backward()
z.grad

# %% [markdown]
# On the command line, `actlab check my_file.py:ReLUFunction` prints the same report for your own function,
# with all rows.
#
# Next: [train a model with it](03_train.ipynb), and look at its history.
