// Signals and gradients in deep networks: the theory of wide layers, and one network with random weights.
// S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, "Deep information propagation", 2017.

import { Random } from "./random.js";

// Bounds of slopes, as in the diagnostics of actlab compare.
const DEAD = 1e-3;
const SATURATED = 0.05;
const WIDTH = 100, SAMPLES = 64;  // of the sampled network
// Gauss and Legendre's rule with 16 points on [-1, 1]: half of the points and weights.
const POINTS = [0.0950125098376374, 0.2816035507792589, 0.4580167776572274, 0.6178762444026438, 0.7554044083550030, 0.8656312023878318,
  0.9445750230732326, 0.9894009349916499];
const WEIGHTS = [0.1894506104550685, 0.1826034150449236, 0.1691565193950025, 0.1495959888165767, 0.1246289712555339, 0.0951585116824928,
  0.0622535239386479, 0.0271524594117541];
const CLOSE = [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25], FAR = Array.from({ length: 18 }, (_, i) => 0.5 * (i + 1));

/** Return points z and weights for means over z ~ N(0, 1), exact on both sides of some borders. */
function makeRule(borders) {
  const ends = [...new Set([...CLOSE, ...FAR].flatMap((z) => [-z, z]).concat(borders.filter((z) => Math.abs(z) < 9)))].sort((a, b) => a - b);
  const z = [], weights = [];
  for (let i = 0; i + 1 < ends.length; i++) {
    const half = (ends[i + 1] - ends[i]) / 2, middle = (ends[i + 1] + ends[i]) / 2;
    POINTS.forEach((point, k) => [-point, point].forEach((at) => {
      const value = middle + half * at;
      z.push(value);
      weights.push(half * WEIGHTS[k] * Math.exp(-value * value / 2) / Math.sqrt(2 * Math.PI));
    }));
  }
  return { z: Float64Array.from(z), weights: Float64Array.from(weights) };
}

/**
 * Return the moments of a function at inputs of variance q: mean E[f], second E[f^2], slope E[f'^2] and spread E[z^2 f^2].
 */
export function computeMoments(activation, q = 1) {
  const scale = Math.sqrt(q), { z, weights } = makeRule(scale > 0 ? activation.kinks.map(({ x }) => x / scale) : []);
  const { v, d } = activation.formula.evaluate(z.map((value) => value * scale), 1);
  const sums = { mean: 0, second: 0, slope: 0, spread: 0 };
  weights.forEach((w, i) => {
    sums.mean += w * v[i];
    sums.second += w * v[i] * v[i];
    sums.slope += w * d[i] * d[i];
    sums.spread += w * z[i] * z[i] * v[i] * v[i];
  });
  return sums;
}

// Points on [-6.5, 6.5] for a step function: at equal distances, and more of them near 0 for inputs of large variance.
const GRID = Array.from({ length: 1301 }, (_, i) => i / 200).concat([1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 2e-3, 3e-3]).flatMap((z) => [-z, z]);

/** Return P(|f'| < 0.05) at inputs of variance q; f' is taken as a straight line between neighbours of a fine grid, and jumps at kinks. */
export function computeSaturated(activation, q = 1) {
  const scale = Math.sqrt(q), kinks = scale > 0 ? activation.kinks.map(({ x }) => x / scale).filter((z) => Math.abs(z) < 6.5) : [];
  const z = Float64Array.from(new Set(GRID.concat(kinks.flatMap((at) => [at - 1e-9, at + 1e-9])))).sort();
  const { d } = activation.formula.evaluate(z.map((one) => one * scale), 1);
  let share = 0;
  for (let i = 0; i + 1 < z.length; i++) {
    const rise = d[i + 1] - d[i], ends = [-SATURATED, SATURATED].map((bound) => Math.min(1, Math.max(0, (bound - d[i]) / rise)));
    const part = rise === 0 ? Number(Math.abs(d[i]) < SATURATED) : Math.abs(ends[1] - ends[0]), middle = (z[i] + z[i + 1]) / 2;
    if (part > 0) share += part * (z[i + 1] - z[i]) * Math.exp(-middle * middle / 2) / Math.sqrt(2 * Math.PI);
  }
  return share;
}

/** Return the gain, the critical point [sigma_w, sigma_b] or null, and the variance slope, as actlab.models.gaussian_moments. */
export function describeMoments(moments) {
  const bias = 1 - moments.second / moments.slope, isPossible = moments.slope > 0 && bias >= -1e-7;
  return {
    gain: 1 / Math.sqrt(moments.second),
    critical: isPossible ? [1 / Math.sqrt(moments.slope), bias > 1e-7 ? Math.sqrt(bias) : 0] : null,
    varianceSlope: (moments.spread / moments.second - 1) / 2,
  };
}

/**
 * Return the theory for layers 1 to depth: variances of the inputs of the activations, factors of the mean squared gradient, and shares
 * of saturated values. The inputs of the first activation have the variance 1.
 */
export function predict(activation, depth, sigmaW, sigmaB) {
  const layers = [];
  for (let layer = 1, q = 1; layer <= depth; layer++) {
    const size = Math.min(q, 1e200), moments = computeMoments(activation, size), factor = sigmaW ** 2 * moments.slope;
    layers.push({ layer, q, factor, saturated: Math.abs(q - layers.at(-1)?.q) < 1e-6 * q ? layers.at(-1).saturated : computeSaturated(activation, size) });
    q = sigmaW ** 2 * moments.second + sigmaB ** 2;
  }
  let gradient = 1;  // of the inputs of the last activation, relative to them
  for (const one of layers.toReversed()) {
    one.gradient = gradient;
    const previous = layers[one.layer - 2];
    if (previous) gradient *= previous.factor;
  }
  return layers;
}

const TABLE = Float64Array.from({ length: 241 }, (_, i) => 10 ** ((i - 120) / 10));  // variances q

/** Return E[f^2] and E[f'^2] for the variances of TABLE. */
function tabulate(activation) {
  const moments = Array.from(TABLE, (q) => computeMoments(activation, q));
  return { second: moments.map(({ second }) => second), slope: moments.map(({ slope }) => slope) };
}

/** What the map of sigma_w and sigma_b shows about a function. */
export class ScaleMap {
  constructor(activation) {
    Object.assign(this, tabulate(activation));
  }

  /** Return the points on which gradients keep their size at the variance that signals approach. */
  traceCriticalCurve() {
    const points = Array.from(TABLE, (q, i) => [q, this.second[i], this.slope[i]]).filter(([q, second, slope]) => slope > 1e-12 && q >= 1e-4 && q - second / slope >= -1e-9 * q);
    return points.map(([q, second, slope]) => [1 / Math.sqrt(slope), Math.sqrt(Math.max(q - second / slope, 0))]);
  }

  /** Return the common logarithm of the mean squared gradient of layer 1, relative to the last layer. */
  computeGradient(depth, sigmaW, sigmaB) {
    let q = 1, size = 0;
    for (let layer = 1; layer < depth; layer++) {
      const place = Math.min(TABLE.length - 1.001, Math.max(0, 10 * Math.log10(q) + 120)), i = Math.floor(place), rest = place - i;
      const read = (values) => values[i] + rest * (values[i + 1] - values[i]);
      // Beyond the table E[f^2] is taken as proportional to q.
      q = sigmaW ** 2 * read(this.second) * (q / Math.min(TABLE.at(-1), Math.max(TABLE[0], q))) + sigmaB ** 2;
      size += Math.log10(sigmaW ** 2 * read(this.slope));
    }
    return size;
  }
}

/** A deep network of random weights; the same random numbers serve all scales. */
export class RandomNetwork {
  constructor(seed) {
    Object.assign(this, { random: new Random(seed), weights: [], biases: [] });
    const raw = Float64Array.from({ length: WIDTH * SAMPLES }, () => this.random.normal());
    const size = Math.sqrt(raw.reduce((sum, one) => sum + one * one, 0) / raw.length);
    this.input = raw.map((one) => one / size);
  }

  /** Return for each layer the variance of the inputs of the activation, the mean squared gradient, and shares of dead units and saturated values. */
  measure(activation, depth, sigmaW, sigmaB) {
    while (this.weights.length < depth) {
      this.weights.push(Float64Array.from({ length: WIDTH * WIDTH }, () => this.random.normal()));
      this.biases.push(Float64Array.from({ length: WIDTH }, () => this.random.normal()));
    }
    const scale = sigmaW / Math.sqrt(WIDTH), layers = [], slopes = [];
    let signal;
    for (let l = 0; l < depth; l++) {
      const z = l === 0 ? this.input : multiplySamples(signal, this.weights[l], scale, this.biases[l], sigmaB);
      const { v, d } = activation.formula.evaluate(z, 1), n = z.length;
      signal = v.slice(0, n);
      slopes.push(d.slice(0, n));
      layers.push({ layer: l + 1, q: meanSquare(z), ...countSlopes(slopes[l], WIDTH, n) });
    }
    const top = new Random(7);
    let gradient = Float64Array.from({ length: SAMPLES * WIDTH }, () => top.normal());  // of the inputs of the last activation
    for (let l = depth - 1; l >= 0; l--) {
      layers[l].gradient = meanSquare(gradient);
      if (l === 0) break;
      gradient = multiplySamplesBack(gradient, this.weights[l], scale);
      for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i] === 0 || slopes[l - 1][i] === 0 ? 0 : gradient[i] * slopes[l - 1][i];
    }
    const last = layers.at(-1).gradient;
    for (const one of layers) one.gradient /= last;
    return layers;
  }
}

const meanSquare = (values) => values.reduce((sum, one) => sum + one * one, 0) / values.length;

/** Return the shares of dead units (every slope below 0.001) and of saturated values (slope below 0.05); samples x units. */
export function countSlopes(slopes, width, n) {
  let dead = 0, saturated = 0;
  for (let unit = 0; unit < width; unit++) {
    let largest = 0;
    for (let i = unit; i < n; i += width) {
      const size = Math.abs(slopes[i]);
      if (size > largest) largest = size;
      if (size < SATURATED) saturated++;
    }
    if (largest < DEAD) dead++;
  }
  return { dead: dead / width, saturated: saturated / n };
}

function multiplySamples(signal, weights, scale, biases, sigmaB) {
  const out = new Float64Array(SAMPLES * WIDTH);
  for (let s = 0; s < SAMPLES; s++) {
    for (let j = 0; j < WIDTH; j++) {
      let sum = 0;
      for (let k = 0; k < WIDTH; k++) sum += signal[s * WIDTH + k] * weights[j * WIDTH + k];
      out[s * WIDTH + j] = scale * sum + sigmaB * biases[j];
    }
  }
  return out;
}

function multiplySamplesBack(gradient, weights, scale) {
  const out = new Float64Array(SAMPLES * WIDTH);
  for (let s = 0; s < SAMPLES; s++) {
    for (let j = 0; j < WIDTH; j++) {
      const one = gradient[s * WIDTH + j] * scale;
      if (one !== 0) for (let k = 0; k < WIDTH; k++) out[s * WIDTH + k] += one * weights[j * WIDTH + k];
    }
  }
  return out;
}
