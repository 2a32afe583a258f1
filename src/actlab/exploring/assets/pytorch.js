// Write a formula as PyTorch code, from its list of operations.

const SIGNS = { add: ["+", 1], subtract: ["-", 1], multiply: ["*", 2], divide: ["/", 2], power: ["**", 4] };
const CALLS = { softplus: "F.softplus", erfc: "torch.special.erfc" };
const ATOM = 5, COMPARED = 0, NEGATIVE = 3;

/** Return a number as Python writes it. */
const writeNumber = (value) => {
  const text = String(value);
  return Number.isInteger(value) && Math.abs(value) < 1e16 ? `${text}.0` : text;
};

/** Return the lines of a function body that computes a formula of x. */
function writeBody(formula) {
  const { nodes } = formula, uses = nodes.map(() => 0), names = new Map(), lines = [];
  nodes.forEach((node) => { if (!node.isConstant) node.args.forEach((one) => uses[one]++); });
  formula.at(1);  // computes the constants
  const wrap = ([text, rank], least) => rank < least ? `(${text})` : text;
  const write = (place, least = 0) => wrap(names.has(place) ? [names.get(place), ATOM] : express(place), least);

  function express(place) {
    const { op, args, isConstant, sign } = nodes[place];
    if (op === "x") return ["x", ATOM];
    if (isConstant) {
      const value = formula.main.registers[place].v[0];
      return [writeNumber(value), value < 0 ? NEGATIVE : ATOM];
    }
    if (Object.hasOwn(SIGNS, op)) {
      const [text, rank] = SIGNS[op], right = op === "add" || op === "multiply" ? rank : op === "power" ? NEGATIVE : rank + 1;
      return [`${write(args[0], op === "power" ? ATOM : rank)} ${text} ${write(args[1], right)}`, rank];
    }
    if (op === "negate") return [`-${write(args[0], NEGATIVE)}`, NEGATIVE];
    if (op === "compare") return [`${write(args[0], 1)} ${sign} ${write(args[1], 1)}`, COMPARED];
    if (op === "and" || op === "or") return [args.map((one) => write(one, ATOM)).join(op === "and" ? " & " : " | "), COMPARED];
    if (op === "not") return [`~${write(args[0], ATOM)}`, ATOM];
    if (op === "min" || op === "max") {
      const [constant, other] = nodes[args[0]].isConstant ? args : args.toReversed();
      if (nodes[constant].isConstant) return [`torch.clamp(${write(other)}, ${op === "min" ? "max" : "min"}=${write(constant)})`, ATOM];
      return [`torch.${op === "min" ? "minimum" : "maximum"}(${args.map((one) => write(one)).join(", ")})`, ATOM];
    }
    return [`${Object.hasOwn(CALLS, op) ? CALLS[op] : `torch.${op}`}(${args.map((one) => write(one)).join(", ")})`, ATOM];
  }

  nodes.forEach((node, place) => {
    if (uses[place] < 2 || node.isConstant || node.op === "x") return;
    const [text] = express(place);
    names.set(place, `u${names.size + 1}`);
    lines.push(`${names.get(place)} = ${text}`);
  });
  return [...lines, `return ${write(nodes.length - 1)}`];
}

/** Return a valid name of a Python class, such as XTanhX. */
function nameClass(text) {
  const words = text.match(/[A-Za-z0-9]+/g) ?? [], name = words.map((word) => word[0].toUpperCase() + word.slice(1)).join("").slice(0, 40);
  return /^[A-Za-z]/.test(name) ? name : `F${name}`;
}

/** Return {imports, definition, call}: the class of an activation, if it needs one, and the expression that makes its module. */
export function writeModule(activation) {
  const { entry, values, formula, label } = activation, torch = entry?.torch;
  if (torch) {
    const given = torch.arguments.map((name) => [name, values.get(name)]).filter(([name, value]) => value !== torch.defaults[name]);
    const written = [...given.map(([name, value]) => `${name}=${writeNumber(value)}`), ...Object.entries(torch.fixed).map(([name, text]) => `${name}="${text}"`)];
    return { definition: [], call: `nn.${torch.name}(${written.join(", ")})` };
  }
  const name = nameClass(entry ? entry.module ?? label : formula.text), body = writeBody(formula);
  const definition = [`class ${name}(nn.Module):`, `    """${describe(activation)}"""`, "", "    def forward(self, x):", ...body.map((line) => `        ${line}`)];
  return { definition, call: `${name}()` };
}

const describe = ({ formula, values }) => {
  const given = [...values].map(([name, value]) => `${name} = ${value}`).join(", ");
  return given ? `${formula.text}, with ${given}` : formula.text;
};
