// Elementary functions with two derivatives, accurate to about 1e-15 in double precision.

/** The value and the derivatives of the last call of a function in JETS. */
export const jet = new Float64Array(3);

const set = (value, first, second) => { jet[0] = value; jet[1] = first; jet[2] = second; };
const ratio = (x, over, under) => {
  let a = over[0], b = under[0];
  for (let i = 1; i < over.length; i++) a = a * x + over[i];
  for (let i = 1; i < under.length; i++) b = b * x + under[i];
  return a / b;
};
// W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969; the coefficients of CALERF.
const NEAR = [
  [1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3],
  [1, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3],
];
const MIDDLE = [
  [2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3],
  [1, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3, 3.29079923573345963e3,
    4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3],
];
const FAR = [
  [1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1, 1.60837851487422766e-2,
    6.58749161529837803e-4],
  [1, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3],
];
const ROOT_PI = Math.sqrt(Math.PI);

/** Return exp(-a^2), without the rounding error of the square. */
function gaussian(a) {
  const high = Math.trunc(a * 16) / 16;
  return Math.exp(-high * high) * Math.exp(-(a - high) * (a + high));
}

/** Return erfc(a) for a >= 0.46875. */
function erfcTail(a) {
  if (a > 27.3) return 0;
  if (a <= 4) return gaussian(a) * ratio(a, ...MIDDLE);
  const square = 1 / (a * a);
  return gaussian(a) * (1 / ROOT_PI - square * ratio(square, ...FAR)) / a;
}

export function erf(a) {
  const size = Math.abs(a);
  return size <= 0.46875 ? a * ratio(a * a, ...NEAR) : Math.sign(a) * (1 - erfcTail(size));
}

export function erfc(a) {
  if (Math.abs(a) <= 0.46875) return 1 - erf(a);
  return a > 0 ? erfcTail(a) : 2 - erfcTail(-a);
}

export function sigmoid(a) {
  const e = Math.exp(-Math.abs(a));
  return (a >= 0 ? 1 : e) / (1 + e);
}

/** Every function of one argument that a formula may use: it stores value and derivatives in `jet`. */
export const JETS = new Map(Object.entries({
  exp: (a) => { const e = Math.exp(a); set(e, e, e); },
  expm1: (a) => { const e = Math.exp(a); set(Math.expm1(a), e, e); },
  log: (a) => set(Math.log(a), a >= 0 ? 1 / a : NaN, a >= 0 ? -1 / (a * a) : NaN),
  log1p: (a) => set(Math.log1p(a), a >= -1 ? 1 / (1 + a) : NaN, a >= -1 ? -1 / ((1 + a) * (1 + a)) : NaN),
  sqrt: (a) => { const r = Math.sqrt(a); set(r, 0.5 / r, -0.25 / (a * r)); },
  tanh: (a) => {
    const e = Math.exp(-2 * Math.abs(a)), t = Math.tanh(a), slope = 4 * e / ((1 + e) * (1 + e));
    set(t, slope, -2 * t * slope);
  },
  sinh: (a) => { const s = Math.sinh(a); set(s, Math.cosh(a), s); },
  cosh: (a) => { const c = Math.cosh(a); set(c, Math.sinh(a), c); },
  sin: (a) => { const s = Math.sin(a); set(s, Math.cos(a), -s); },
  cos: (a) => { const c = Math.cos(a); set(c, -Math.sin(a), -c); },
  tan: (a) => { const t = Math.tan(a), s = 1 + t * t; set(t, s, 2 * t * s); },
  atan: (a) => { const r = 1 / (1 + a * a); set(Math.atan(a), r, -2 * a * r * r); },
  asinh: (a) => { const r = 1 / Math.hypot(a, 1); set(Math.sign(a) * Math.asinh(Math.abs(a)), r, -a * r * r * r); },
  acosh: (a) => { const r = 1 / Math.sqrt((a - 1) * (a + 1)); set(Math.acosh(a), r, -a * r * r * r); },
  atanh: (a) => { const r = Math.abs(a) <= 1 ? 1 / ((1 - a) * (1 + a)) : NaN; set(Math.atanh(a), r, 2 * a * r * r); },
  erf: (a) => { const g = 2 / ROOT_PI * gaussian(Math.min(Math.abs(a), 30)); set(erf(a), g, -2 * a * g); },
  erfc: (a) => { const g = 2 / ROOT_PI * gaussian(Math.min(Math.abs(a), 30)); set(erfc(a), -g, 2 * a * g); },
  sigmoid: (a) => {
    const e = Math.exp(-Math.abs(a)), slope = e / ((1 + e) * (1 + e)), s = (a >= 0 ? 1 : e) / (1 + e);
    set(s, slope, slope * (a >= 0 ? e - 1 : 1 - e) / (1 + e));
  },
  softplus: (a) => {
    const e = Math.exp(-Math.abs(a));
    set(Math.max(a, 0) + Math.log1p(e), (a >= 0 ? 1 : e) / (1 + e), e / ((1 + e) * (1 + e)));
  },
}));
