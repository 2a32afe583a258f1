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
# # 2. ReLU by hand, and whether it is right
#
# PyTorch has ReLU. We write it all the same, from nothing, because whoever has written one activation can
# write any. Then we check it: by eye, with PyTorch's own checker, and with a stricter one, which finds a
# mistake that is easily made.

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
# A `torch.autograd.Function` is an operation with a backward pass of our own. It has three parts:
#
# - `forward` computes the output;
# - `setup_context` says what the backward pass will need, and keeps it;
# - `backward` gets $\partial L/\partial y$, the gradient with respect to the output, and returns
#   $\partial L/\partial x$.
#
# The last is the incoming gradient times the derivative, element by element. For ReLU the derivative is 1
# or 0, so it is enough to copy the gradient and to set it to 0 where the input was cut.


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
# Three things to note. Tensors are kept with `save_for_backward`, not as an attribute: PyTorch then frees
# them in time, and notices when somebody has changed one in between. The incoming gradient is copied before
# it is changed, since it is not ours: others may be reading it. And what is kept is the *input*; keep
# nothing but the input or the output, for a reason that comes below.
#
# A net is made of modules, so the function gets a module around it.


# %%
class ReLU(nn.Module):
    def forward(self, x):
        return ReLUFunction.apply(x)


# %% [markdown]
# ## By eye
#
# A net so small that every number can be computed on paper: two inputs, three units, one output, and no
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
# With $x = (1, 1)$ the three units get $z = (1 + 2,\ -1 - 1,\ 2 - 1) = (3, -2, 1)$. The second is cut:
# $h = (3, 0, 1)$, and $y = 2\cdot 3 + 3\cdot 0 + 4\cdot 1 = 10$.
#
# On the way back, $\partial y/\partial h = (2, 3, 4)$, which are the weights of the second layer. The gate
# lets through the first and the third, so $\partial y/\partial z = (2, 0, 4)$. The gradient of the first
# layer's weights is that times $x = (1, 1)$: a row of twos, a row of zeros, a row of fours.

# %%
y.backward()
first.weight.grad

# %% [markdown]
# As computed. The unit that was cut gets no gradient: this input will not change it.
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
# `True`: at these twenty points. It says nothing of float32, in which nets are trained, of very large or
# very small inputs, or of the one point at which ReLU has a bend: a random number is never exactly 0.
#
# ## With actlab
#
# `actlab.check` looks there as well. It compares values and gradients with float64 over the whole range of
# each number format, looks for bends and jumps and at what is returned there, and tries what else PyTorch
# can do with a function. (The two rows of the compiler take seconds and are left out here.)

# %%
report = actlab.check(ReLUFunction, skip=["compile", "export"])
print(report)

# %% [markdown]
# One row has failed, `kinks`: the gradient at 0 is 1. At the bend the derivative does not exist; from the
# left it is 0, from the right it is 1, and any number between may be chosen. But ReLU cuts all that is not
# *above* 0, so an input of 0 is cut as well, and what is cut should get no gradient. PyTorch's own ReLU has
# 0 there. Ours says `x < 0` where it should say `x <= 0`.
#
# Is that of any importance? An input of exactly 0 is rare, but not where zeros are made: a layer that
# starts with weights 0, an empty part of an image under a filter without bias, the padding of a text. There
# the two functions train differently.

# %%
z = torch.zeros(3, requires_grad=True)
ReLUFunction.apply(z).sum().backward()
print("ours:   ", z.grad.tolist())

z.grad = None
torch.relu(z).sum().backward()
print("torch's:", z.grad.tolist())

# %% [markdown]
# Mended, and in a form that says what it does: the gradient times the derivative. One more line,
# `generate_vmap_rule`, lets PyTorch apply the function to many nets at a time, which the fourth lesson
# does.


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


mended = actlab.check(ReLUFunction, skip=["compile", "export"])
print("kinks:", mended.row("kinks").status)
print(mended.text().splitlines()[0])

# %% [markdown]
# Nothing fails. What is *unsupported* says so when it is asked for, instead of giving a wrong answer, and
# is no fault: a `Function` has no forward mode unless it is given a `jvp`.
#
# ## Tanh by hand, twice
#
# $$\tanh x = \frac{e^x - e^{-x}}{e^x + e^{-x}}, \qquad \tanh' x = 1 - \tanh^2 x.$$
#
# The derivative needs only the output. So that is what is kept: the next layer keeps it anyway, as its
# input, and so it costs no memory. Here is the formula as it stands in the books.


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
# $\infty/\infty$ is not a number: in float32 that begins at 89. For small $x$ both exponentials are nearly
# 1, and of their difference few digits are left, or none. gradcheck, which tries a few numbers of ordinary
# size in float64, sees neither.

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
# `torch.tanh` knows both. Only the forward pass has to change.


# %%
class TanhFunction(TextbookTanh):
    @staticmethod
    def forward(x):
        return torch.tanh(x)


print(actlab.check(TanhFunction, skip=["compile", "export"]).text().splitlines()[0])

# %% [markdown]
# ## Sigmoid and leaky ReLU
#
# For the sigmoid, $\sigma(x) = 1/(1 + e^{-x})$ and $\sigma' = \sigma(1 - \sigma)$: the output is enough
# again. The leaky ReLU lets a small part of what ReLU cuts go through, forward and backward: $x$ where
# positive, $0.01\,x$ elsewhere. A second argument of `forward`, here the slope, needs a second value from
# `backward`: None, as it has no gradient.


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
# All four give the gradients of PyTorch's own, in the net of the next lesson and on the first 128 rows of
# the data.


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
# ## Keep the input or the output, and nothing else
#
# Why not compute the derivative in the forward pass, and keep that? Because a gradient can be
# differentiated again. PyTorch knows how the input and the output came about, but not what was in between,
# and takes that for a constant. The second derivative is then wrong, without a message.


# %%
class KeepsTheSlope(torch.autograd.Function):
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
for function in (KeepsTheSlope, SigmoidFunction):
    (slope,) = torch.autograd.grad(function.apply(at) ** 2, at, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, at)
    print(
        f"{function.__name__:<15}  slope of f(x)^2 at 1: {slope:.6f}   its slope: {curvature:.6f}"
    )

report = actlab.check(KeepsTheSlope, only=["first derivative", "second derivative"])
for row in report.rows:
    print(f"{row.name}: {row.status}")

# %% [markdown]
# By the chain rule the slope of the slope is $2\sigma'^2 + 2\sigma\sigma''$, at 1 about $-0.0555$. The
# first line has only the first of the two terms: for it, $\sigma'$ is a constant.

# %% [markdown]
# ## The same in a few lines
#
# All that was *mathematics* in the classes above is the function and its derivative. An actlab definition
# has these, a few facts, and nothing else; the autograd node, the module and the rest follow from it.


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
# Forward mode, `vmap` and the derivative of the derivative are there as well: nothing is unsupported. The
# facts are not for show. They draw the pictures, choose the points that are checked, and say what happens
# at the bend.
#
# Shorter still is a formula. Its derivatives are derived, and it is an activation like any other.

# %%
leaky = actlab.formula("where(x > 0, x, 0.01*x)", name="my_leaky_relu")
print(actlab.check(leaky, skip=["compile", "export"]).text().splitlines()[0])

z = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
leaky(z).sum().backward()
z.grad

# %% [markdown]
# On the command line `actlab check my_file.py:ReLUFunction` prints the same report for a function of yours,
# with all rows.
#
# Next: [train a net with it](03_train.ipynb), and read what happened.
