// A small perceptron with one output, trained in the page.

import { countSlopes } from "./propagation.js";
import { Random } from "./random.js";

/** Two-dimensional data: x has two features of each sample, y the label (0 or 1) or the value. */
export const DATASETS = new Map(Object.entries({
  moons: { title: "Moons", make: (random, i, n) => {
    const angle = Math.PI * random.uniform(), upper = i < n / 2, noise = () => 0.12 * random.normal();
    return upper ? [Math.cos(angle) - 0.5 + noise(), Math.sin(angle) - 0.25 + noise(), 0] : [0.5 - Math.cos(angle) + noise(), 0.25 - Math.sin(angle) + noise(), 1];
  } },
  circles: { title: "Circles", make: (random, i, n) => {
    const angle = 2 * Math.PI * random.uniform(), inner = i < n / 2, radius = (inner ? 0.55 : 1.25) + 0.1 * random.normal();
    return [radius * Math.cos(angle), radius * Math.sin(angle), inner ? 1 : 0];
  } },
  spirals: { title: "Spirals", make: (random, i, n) => {
    const turn = 0.15 + 0.85 * random.uniform(), second = i < n / 2, angle = turn * 3.2 * Math.PI + (second ? Math.PI : 0);
    return [1.5 * turn * Math.cos(angle) + 0.04 * random.normal(), 1.5 * turn * Math.sin(angle) + 0.04 * random.normal(), second ? 1 : 0];
  } },
  xor: { title: "XOR", make: (random) => {
    const side = () => { const value = 3 * random.uniform() - 1.5; return value + (value > 0 ? 0.1 : -0.1); };
    const [a, b] = [side(), side()];
    return [a, b, a * b > 0 ? 1 : 0];
  } },
  waves: { title: "Waves (regression)", isRegression: true, make: (random) => {
    const a = 3.4 * random.uniform() - 1.7, b = 3.4 * random.uniform() - 1.7;
    return [a, b, Math.sin(2 * a) * Math.cos(1.5 * b) + 0.05 * random.normal()];
  } },
}));

/** Return {x, y, isRegression, n} of a dataset. */
export function makeData(name, seed, n = 512) {
  const { make, isRegression = false } = DATASETS.get(name), random = new Random(1000 + seed), x = new Float64Array(2 * n), y = new Float64Array(n);
  for (let i = 0; i < n; i++) [x[2 * i], x[2 * i + 1], y[i]] = make(random, i, n);
  return { name, x, y, isRegression, n };
}

/** A perceptron; the weights of layer l are (outputs, inputs), as in torch.nn.Linear. */
export class Network {
  /**
   * @param sizes numbers of features, hidden units and outputs, such as [2, 16, 16, 1]
   * @param activations one for each hidden layer
   * @param seed networks with the same seed start from the same weights
   */
  constructor(sizes, activations, seed) {
    const random = new Random(seed);
    Object.assign(this, { sizes, activations, step: 0 });
    this.layers = sizes.slice(1).map((outputs, l) => {
      const inputs = sizes[l], bound = 1 / Math.sqrt(inputs), draw = () => bound * (2 * random.uniform() - 1);  // torch's default
      const weight = Float64Array.from({ length: outputs * inputs }, draw), bias = Float64Array.from({ length: outputs }, draw);
      return { inputs, outputs, weight, bias, weightGrad: new Float64Array(weight.length), biasGrad: new Float64Array(outputs),
        weightSpeed: new Float64Array(weight.length), biasSpeed: new Float64Array(outputs) };
    });
  }

  /** Return the outputs (n) for samples (n x features); keeps what the gradient needs. */
  forward(x) {
    const n = x.length / this.sizes[0];
    let signal = x;
    this.layers.forEach((layer, l) => {
      const { inputs, outputs, weight, bias } = layer, z = resize(layer, "z", n * outputs);
      for (let s = 0; s < n; s++) {
        for (let j = 0; j < outputs; j++) {
          let sum = bias[j];
          for (let k = 0; k < inputs; k++) sum += signal[s * inputs + k] * weight[j * inputs + k];
          z[s * outputs + j] = sum;
        }
      }
      layer.input = signal;
      const activation = this.activations[l];
      if (!activation) { signal = z; return; }
      const { v, d } = activation.formula.evaluate(z, 1);
      layer.slope = resize(layer, "slope", z.length);
      layer.value = resize(layer, "value", z.length);
      layer.slope.set(d.subarray(0, z.length));
      layer.value.set(v.subarray(0, z.length));
      signal = layer.value;
    });
    return signal;
  }

  /** Compute the mean loss and its gradients: squared error, or cross-entropy of the output as a logit. */
  computeLoss(x, y, isRegression) {
    const output = this.forward(x), n = y.length;
    let loss = 0, grad = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const z = output[i];
      if (isRegression) {
        loss += (z - y[i]) ** 2;
        grad[i] = 2 * (z - y[i]) / n;
      } else {
        const e = Math.exp(-Math.abs(z));
        loss += Math.max(z, 0) - z * y[i] + Math.log1p(e);
        grad[i] = ((z >= 0 ? 1 : e) / (1 + e) - y[i]) / n;
      }
    }
    for (let l = this.layers.length - 1; l >= 0; l--) grad = this.backward(l, grad, n);
    return loss / n;
  }

  /** Store the gradients of a layer, and return those of its inputs. */
  backward(l, grad, n) {
    const layer = this.layers[l], { inputs, outputs, weight, weightGrad, biasGrad, input } = layer, back = new Float64Array(l > 0 ? n * inputs : 0);
    if (this.activations[l]) for (let i = 0; i < n * outputs; i++) grad[i] = grad[i] === 0 || layer.slope[i] === 0 ? 0 : grad[i] * layer.slope[i];
    weightGrad.fill(0);
    biasGrad.fill(0);
    for (let s = 0; s < n; s++) {
      for (let j = 0; j < outputs; j++) {
        const g = grad[s * outputs + j];
        if (g === 0) continue;
        biasGrad[j] += g;
        for (let k = 0; k < inputs; k++) weightGrad[j * inputs + k] += g * input[s * inputs + k];
        if (l > 0) for (let k = 0; k < inputs; k++) back[s * inputs + k] += g * weight[j * inputs + k];
      }
    }
    return back;
  }

  /** Train one step of gradient descent with momentum, as torch.optim.SGD; return the loss before the step. */
  train(x, y, isRegression, rate, momentum) {
    const loss = this.computeLoss(x, y, isRegression);
    for (const layer of this.layers) {
      for (const part of ["weight", "bias"]) {
        const values = layer[part], grad = layer[`${part}Grad`], speed = layer[`${part}Speed`];
        for (let i = 0; i < values.length; i++) {
          speed[i] = momentum * speed[i] + grad[i];
          values[i] -= rate * speed[i];
        }
      }
    }
    this.step++;
    return loss;
  }

  /** Scale the weights so that the outputs of each layer have the mean square 1, as actlab.init_. */
  match(x) {
    for (const layer of this.layers) {
      layer.bias.fill(0);
      this.forward(x);
      const size = Math.sqrt(layer.z.reduce((sum, one) => sum + one * one, 0) / layer.z.length);
      if (Number.isFinite(size) && size > 0) layer.weight.forEach((one, i) => { layer.weight[i] = one / size; });
    }
  }

  /** Return for each hidden layer the shares of dead units and of saturated values, for the last samples. */
  listSlopes() {
    return this.activations.map((_, l) => countSlopes(this.layers[l].slope, this.layers[l].outputs, this.layers[l].z.length));
  }

  /** Return the loss and the accuracy (or R squared) on all samples, without training. */
  score({ x, y, isRegression }) {
    const output = this.forward(x), n = y.length, mean = y.reduce((sum, one) => sum + one, 0) / n;
    let loss = 0, right = 0, total = 0;
    for (let i = 0; i < n; i++) {
      if (isRegression) loss += (output[i] - y[i]) ** 2;
      else loss += Math.max(output[i], 0) - output[i] * y[i] + Math.log1p(Math.exp(-Math.abs(output[i])));
      right += (output[i] > 0) === (y[i] > 0.5);
      total += (y[i] - mean) ** 2;
    }
    return { loss: loss / n, score: isRegression ? 1 - loss / total : right / n };
  }
}

/** Return an array of a layer with n elements, the old one if its length fits. */
function resize(layer, name, n) {
  if (layer[name]?.length !== n) layer[name] = new Float64Array(n);
  return layer[name];
}

/** Networks that train on the same batches from the same weights. */
export class Training {
  constructor(data, networks, { seed, rate, momentum = 0.9, batch = 128 }) {
    Object.assign(this, { data, networks, rate, momentum, batch, random: new Random(seed + 500), order: [], losses: networks.map(() => []) });
    this.x = new Float64Array(2 * batch);
    this.y = new Float64Array(batch);
  }

  get steps() { return this.networks[0].step; }

  advance() {
    const { x, y, data, batch } = this;
    if (this.order.length < batch) this.order = [...this.random.shuffle(data.n)];
    this.order.splice(0, batch).forEach((from, i) => {
      x[2 * i] = data.x[2 * from];
      x[2 * i + 1] = data.x[2 * from + 1];
      y[i] = data.y[from];
    });
    this.networks.forEach((network, i) => this.losses[i].push(network.train(x, y, data.isRegression, this.rate, this.momentum)));
  }
}
