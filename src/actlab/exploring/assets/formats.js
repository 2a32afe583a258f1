// Round numbers as float16 and bfloat16 do: half to even.

const FORMATS = { float16: { bits: 11, lowest: -14, largest: 65504 }, bfloat16: { bits: 8, lowest: -126, largest: 3.3895313892515355e38 } };

/** Return the distance between neighbours of a format near x. */
export function getSpacing(x, format) {
  const { bits, lowest } = FORMATS[format];
  return 2 ** (Math.max(lowest, x ? Math.floor(Math.log2(Math.abs(x))) : lowest) - bits + 1);
}

/** Return the number of a format that is nearest to x. */
export function roundTo(x, format) {
  if (!Number.isFinite(x) || x === 0) return x;
  const step = getSpacing(x, format), { largest } = FORMATS[format], parts = x / step, low = Math.floor(parts), rest = parts - low;
  const whole = rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
  return Math.abs(whole * step) > largest ? Math.sign(x) * Infinity : whole * step;
}
