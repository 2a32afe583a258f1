// Read a formula: the grammar of actlab.formula, with its names, hints and limits, which Python exports.
// Nothing in a text is evaluated as a script.

const TOKEN = /(?<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?<name>[A-Za-z_]\w*)|(?<sign>\*\*|\/\/|<=|>=|==|!=|&&|\|\||[-+*/(),<>])|(?<space> +)/y;
// Characters that do not take one column.
const UNALIGNED = /[\p{C}\p{Z}\p{M}\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]|[^\0-\uffff]/u;
const BETWEEN = new Set(["*", "/", "**", "<", ">", "<=", ">=", ",", "and", "or"]);
const COMPARISONS = new Set(["<", "<=", ">", ">="]);
const LOGICAL = new Set(["and", "or", "not"]);
const KEYWORDS = new Set(("as assert async await break class continue def del elif except finally for from global import in is "
  + "lambda nonlocal pass raise return try while with yield").split(" "));
const GREEK = ("alpha beta gamma delta epsilon zeta eta theta iota kappa lamda mu nu xi omicron pi rho sigma sigma tau upsilon "
  + "phi chi psi omega").split(" ");

/** A mistake in a formula: the problem and its position in the text. */
export class FormulaError extends Error {
  constructor(problem, text = "", start = 0, end = text.length) {
    super(`formula: ${problem}`);
    Object.assign(this, { text, start, end });
  }

  /** Return the message with the line of text and carets below the position. */
  describe() {
    if (!this.text) return this.message;
    const all = [...this.text], start = [...this.text.slice(0, this.start)].length, end = [...this.text.slice(0, this.end)].length + Math.max(0, this.end - this.text.length);
    const width = 72, first = all.length > width ? Math.max(0, Math.min(start - width / 2, all.length - width)) : 0;
    const last = Math.min(all.length, first + width), before = first > 0 ? "…" : "", after = last < all.length ? "…" : "";
    const shown = all.slice(first, last).map((c) => c === " " || !UNALIGNED.test(c) ? c : "?").join(""), carets = "^".repeat(Math.max(1, Math.min(end, last) - start));
    return `${this.message}\n  ${before}${shown}${after}\n  ${" ".repeat(before.length + start - first)}${carets}`;
  }
}

const quote = (text) => text.includes("'") && !text.includes('"') ? `"${text}"` : `'${text.replaceAll("'", "\\'")}'`;
const shorten = (text, most) => text.length <= most ? text : `${text.slice(0, most - 3)}...`;

/** Return how many characters of a and b match, in the longest common parts and on both sides of them, as in Python's difflib. */
function countMatches(a, b) {
  let best = 0, startA = 0, startB = 0;
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < b.length; j++) {
      let size = 0;
      while (i + size < a.length && j + size < b.length && a[i + size] === b[j + size]) size++;
      if (size > best) [best, startA, startB] = [size, i, j];
    }
  }
  return best && best + countMatches(a.slice(0, startA), b.slice(0, startB)) + countMatches(a.slice(startA + best), b.slice(startB + best));
}

/** Return " (did you mean 'x'?)" for the most similar name, or an empty text. */
export function suggest(word, names) {
  const wanted = word.toLowerCase();
  if (wanted.length > 60) return "";
  const score = (name) => 2 * countMatches(name.toLowerCase(), wanted) / (name.length + wanted.length);
  const [best] = [...names].map((name) => [score(name), name]).filter(([similarity]) => similarity >= 0.6).sort(([a, one], [b, other]) => b - a || (one < other ? 1 : -1));
  return best ? ` (did you mean '${best[1]}'?)` : "";
}

/** Reads formulas. `grammar` is that of Python's describe_grammar(). */
export class Parser {
  constructor(grammar) {
    const map = (object) => new Map(Object.entries(object));
    this.functions = map(grammar.functions);
    this.catalogue = map(grammar.catalogue);
    this.synonyms = map(grammar.synonyms);
    this.steps = map(grammar.steps);
    this.hints = map(grammar.hints);
    this.limits = grammar;
  }

  /** Return the tree of a formula in some variables; throw a FormulaError if it is not one. */
  parse(given, names) {
    if (typeof given !== "string") throw new FormulaError("the text must be a string");
    const most = this.limits.longest, line = given.slice(0, 2 * most).replace(/[\t\r\n]/g, " ").replace(/^ +| +$/g, "");
    if (!line) throw new FormulaError("the text is empty; write 'x * tanh(x)', for example");
    if (line.length > most || given.length > 2 * most) {
      const problem = `the text has ${given.length} characters; the maximum is ${most}`;
      throw new FormulaError(problem, line.slice(0, most), Math.min(line.length, most) - 1, most);
    }
    const tree = new Reader(line, this.tokenize(line)).read();
    this.checkSize(line, tree);
    this.checkValue(line, tree, names);
    return tree;
  }

  /** Split a line into tokens; refuse what is not allowed where it is. */
  tokenize(line) {
    const tokens = [];
    for (let start = 0; start < line.length;) {
      TOKEN.lastIndex = start;
      const match = TOKEN.exec(line), text = match ? match[0] : String.fromCodePoint(line.codePointAt(start));
      if (!match || this.hints.has(text)) throw this.signError(line, start, text);
      start += text.length;
      if (match.groups.space !== undefined) continue;
      const kind = match.groups.number !== undefined ? "number" : match.groups.name !== undefined ? "name" : "sign";
      const token = { kind, text, start: start - text.length, end: start };
      token.endsValue = kind === "number" || (kind === "name" && !LOGICAL.has(text)) || text === ")";
      this.checkWord(line, token);
      checkNeighbours(line, tokens.at(-1), token);
      tokens.push(token);
    }
    const last = tokens.at(-1);
    if (!last.endsValue) throw new FormulaError(`a value is missing after ${quote(last.text)}`, line, line.length, line.length + 1);
    this.checkBrackets(line, tokens);
    return tokens;
  }

  signError(line, start, sign) {
    const code = sign.codePointAt(0), at = code >= 0x3b1 ? code - 0x3b1 : code - 0x391;
    const hint = this.hints.get(sign) ?? (code >= 0x391 && code <= 0x3c9 && GREEK[at] ? `; spell it out: ${GREEK[at]}` : "");
    const shown = sign >= " " && sign !== "\x7f" ? quote(sign) : `'\\x${code.toString(16).padStart(2, "0")}'`;
    return new FormulaError(`${shown} is not allowed${hint}`, line, start, start + sign.length);
  }

  checkWord(line, { kind, text, start, end }) {
    const problem = kind === "number" ? this.findNumberProblem(text) : kind === "name" ? findNameProblem(text) : "";
    if (problem) throw new FormulaError(`${quote(shorten(text, 40))} ${problem}`, line, start, end);
  }

  findNumberProblem(text) {
    const digits = text.replace(/[eE].*|\D/g, "").replace(/^0+/, "");
    if (!Number.isFinite(Number(text)) || (digits && Number(text) === 0)) return "is out of range for float64";
    if (digits.length > this.limits.digits) return `has ${digits.length} digits; the maximum is ${this.limits.digits}`;
    return /^0\d+$/.test(text) ? "starts with a 0; remove it" : "";
  }

  checkBrackets(line, tokens) {
    const opened = [];
    for (const { text, start, end } of tokens) {
      if (text === "(") {
        opened.push(start);
        if (opened.length > this.limits.brackets) throw new FormulaError(`brackets are nested more than ${this.limits.brackets} deep`, line, start, end);
      } else if (text === ")" && opened.pop() === undefined) throw new FormulaError("this bracket was never opened", line, start, end);
    }
    if (opened.length) throw new FormulaError("this bracket is never closed", line, opened.at(-1), opened.at(-1) + 1);
  }

  checkSize(line, tree) {
    const pending = [[tree, 0]];
    for (let parts = 1; pending.length; parts++) {
      const [node, depth] = pending.pop();
      if (depth > this.limits.depth) throw new FormulaError("operations are nested too deeply", line, node.start, node.end);
      if (parts > this.limits.parts) {
        throw new FormulaError(`is too long: it has more than ${this.limits.parts} operations and values`, line, tree.start, tree.end);
      }
      if (node.kind === "call") parts++;  // the name of the function
      node.args?.forEach((child, i) => pending.push([child, depth + (node.kind === "binary" && i === 0 ? 1 : 3)]));
    }
  }

  /** Refuse a part that is not a number: a condition, or an unknown name or function. */
  checkValue(line, node, names) {
    const refuse = (problem, at = node) => { throw new FormulaError(problem, line, at.start, at.end); };
    const text = shorten(line.slice(node.start, node.end), 60);
    if (node.kind === "number") return;
    if (node.kind === "name") this.checkName(refuse, node.name, names);
    else if (node.kind === "call") {
      const isWhere = node.name === "where" && node.args.length === 3;
      if (isWhere) this.checkCondition(line, node.args[0], names);
      else this.checkCall(refuse, node, names);
      node.args.slice(isWhere ? 1 : 0).forEach((one) => this.checkValue(line, one, names));
    } else if (["compare", "and", "or", "not"].includes(node.kind)) refuse(`${quote(text)} is a condition; write where(${text}, a, b)`);
    else if (node.kind === "tuple") refuse(`${quote(text)} is more than one formula`);
    else node.args.forEach((one) => this.checkValue(line, one, names));
  }

  checkCondition(line, node, names) {
    if (node.kind === "compare") node.args.forEach((one) => this.checkValue(line, one, names));
    else if (["and", "or", "not"].includes(node.kind)) node.args.forEach((one) => this.checkCondition(line, one, names));
    else {
      const text = shorten(line.slice(node.start, node.end), 60);
      throw new FormulaError(`${quote(text)} is not a condition; write where(x > 0, a, b)`, line, node.start, node.end);
    }
  }

  checkName(refuse, name, names) {
    if (name === "pi" || names.includes(name)) return;
    if (this.functions.has(name)) refuse(`${quote(name)} is a function; write ${name}(${this.functions.get(name).join(", ")})`);
    if (name === "e" || name === "E") refuse(`unknown name ${quote(name)}; e to the power of x is exp(x)`);
    if (["inf", "infinity", "nan"].includes(name.toLowerCase())) refuse(`${quote(name)} is not a finite number`);
    refuse(`unknown name ${quote(name)}${suggest(name, [...names, "pi"]) || `; a parameter needs a value: ${name}=1.0`}`);
  }

  checkCall(refuse, node, names) {
    const { name } = node, count = node.args.length, entry = this.catalogue.get(name), takes = this.functions.get(name);
    if (takes?.length === count) return;
    let wanted = takes;
    const head = { start: node.start, end: node.start + name.length };
    if (entry?.gated) refuse(`${quote(name)} gates one half of a tensor by the other and has no formula in x`, head);
    if (entry) {
      const parameters = Object.keys(entry.parameters);
      if (count >= 1 + entry.required && count <= 1 + parameters.length) return;
      wanted = ["x", ...parameters];
    } else if (!takes) {
      if (names.includes(name)) refuse(`${quote(name)} is not a function (did you mean '${name}*(...)'?)`, head);
      if (this.steps.has(name)) refuse(`unknown function ${quote(name)}; write ${this.steps.get(name)}`, head);
      const all = [...this.functions.keys(), ...[...this.catalogue].filter(([, one]) => !one.gated).map(([key]) => key)];
      const near = this.synonyms.get(name);
      refuse(`unknown function ${quote(name)}${near ? ` (did you mean ${quote(near)}?)` : suggest(name, all)}`, head);
    }
    refuse(`${name} got ${count} argument${count === 1 ? "" : "s"}; write ${name}(${wanted.join(", ")})`);
  }
}

function findNameProblem(text) {
  if (text.startsWith("_") || text.includes("__")) return "is not a valid name: underscores may only separate words";
  if (text === "if" || text === "else") return "has no meaning in a formula; write where(x > 0, a, b)";
  if (["True", "False", "None"].includes(text)) return "is not a number";
  return KEYWORDS.has(text) ? "is a Python keyword and has no meaning in a formula" : "";
}

/** Refuse two values side by side, such as 2x, and two operators. */
function checkNeighbours(line, left, right) {
  if (!left?.endsValue) {
    const isEmptyCall = left?.text === "(" && right.text === ")";  // the parser refuses it
    if (!isEmptyCall && (BETWEEN.has(right.text) || right.text === ")")) {
      throw new FormulaError(`a value is missing before ${quote(right.text)}`, line, right.start, right.end);
    }
  } else if (right.text === "and" || right.text === "or") {
    if (left.kind === "number" && left.end === right.start) throw new FormulaError(`put a space before ${quote(right.text)}`, line, right.start, right.end);
  } else if (!(right.kind === "sign" && (right.text !== "(" || left.kind === "name"))) {
    if (left.kind === "number" && left.end === right.start && (right.text === "j" || right.text === "J")) {
      throw new FormulaError(`'${left.text}${right.text}' is a complex number; a formula is real`, line, left.start, right.end);
    }
    const problem = `an operator is missing between ${quote(left.text)} and ${quote(right.text)}`;
    throw new FormulaError(`${problem} (did you mean '${left.text}*${right.text}'?)`, line, right.start, right.end);
  }
}

/** Builds the tree of a list of tokens, with Python's precedence. */
class Reader {
  constructor(line, tokens) {
    Object.assign(this, { line, tokens, place: 0 });
  }

  get text() { return this.tokens[this.place]?.text; }

  read() {
    const tree = this.list();
    if (this.place < this.tokens.length) this.fail();
    return tree;
  }

  fail() {
    const start = Math.min(this.tokens[this.place]?.start ?? this.line.length - 1, this.line.length - 1);
    throw new FormulaError("cannot be parsed here", this.line, start, start + 1);
  }

  make(kind, start, args, more = {}) {
    return { kind, start, end: this.tokens[this.place - 1].end, args, ...more };
  }

  list() {
    const start = this.tokens[this.place].start, parts = [this.either()];
    while (this.text === ",") {
      this.place++;
      parts.push(this.either());
    }
    return parts.length > 1 ? this.make("tuple", start, parts) : parts[0];
  }

  logical(word, next) {
    const start = this.tokens[this.place]?.start, parts = [next()];
    while (this.text === word) {
      this.place++;
      parts.push(next());
    }
    return parts.length > 1 ? this.make(word, start, parts) : parts[0];
  }

  either() { return this.logical("or", () => this.both()); }

  both() { return this.logical("and", () => this.negation()); }

  negation() {
    if (this.text !== "not") return this.comparison();
    const { start } = this.tokens[this.place++];
    return this.make("not", start, [this.negation()]);
  }

  comparison() {
    const start = this.tokens[this.place]?.start, args = [this.sum()], signs = [];
    while (COMPARISONS.has(this.text)) {
      signs.push(this.tokens[this.place++].text);
      args.push(this.sum());
    }
    return signs.length ? this.make("compare", start, args, { signs }) : args[0];
  }

  chain(signs, next) {
    const start = this.tokens[this.place]?.start;
    let tree = next();
    while (signs.includes(this.text)) {
      const sign = this.tokens[this.place++].text;
      tree = this.make("binary", start, [tree, next()], { sign });
    }
    return tree;
  }

  sum() { return this.chain(["+", "-"], () => this.product()); }

  product() { return this.chain(["*", "/"], () => this.unary()); }

  unary() {
    if (this.text !== "-" && this.text !== "+") return this.power();
    const { start, text } = this.tokens[this.place++];
    return this.make("unary", start, [this.unary()], { sign: text });
  }

  power() {
    const start = this.tokens[this.place]?.start, base = this.atom();
    if (this.text !== "**") return base;
    this.place++;
    return this.make("binary", start, [base, this.unary()], { sign: "**" });
  }

  atom() {
    const token = this.tokens[this.place];
    if (!token || LOGICAL.has(token.text)) this.fail();
    this.place++;
    if (token.kind === "number") return this.make("number", token.start, undefined, { value: Number(token.text) });
    if (token.kind === "name") {
      if (this.text !== "(") return this.make("name", token.start, undefined, { name: token.text });
      this.place++;
      const args = [];
      while (this.text !== ")") {
        args.push(this.either());
        if (this.text === ",") this.place++;
        else if (this.text !== ")") this.fail();
      }
      this.place++;
      return this.make("call", token.start, args, { name: token.text });
    }
    if (token.text !== "(") {
      this.place--;
      this.fail();
    }
    if (this.text === ")") {
      this.place++;
      return this.make("tuple", token.start, []);
    }
    const tree = this.list();
    if (this.text !== ")") this.fail();
    this.place++;
    return tree.kind === "tuple" ? { ...tree, start: token.start, end: this.tokens[this.place - 1].end } : tree;
  }
}
