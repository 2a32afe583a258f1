// Section "Link, command and code".

import { find } from "./page.js";
import { writeModule } from "./pytorch.js";

export class TakeView {
  constructor(state) {
    this.state = state;
    for (const button of document.querySelectorAll("[data-copies]")) {
      button.addEventListener("click", () => this.copy(find(button.dataset.copies), button.dataset.from));
    }
  }

  update() {
    const { functions } = this.state;
    find("code").textContent = this.writeCode();
    find("command").textContent = `actlab compare ${functions.map((one) => quoteForShell(one.spec)).join(" ")} --data digits`;
    find("link").value = `${location.href.replace(/#.*/s, "")}#${this.state.write()}`;
  }

  /** Return a program with the classes of the functions and network A. */
  writeCode() {
    const { train } = this.state, layers = Array.from({ length: train.layers }, (_, l) => this.state.choose(train.sides[0][l]));
    const modules = new Map([...this.state.functions, ...layers].map((one) => [one.spec, { ...writeModule(one), spec: one.spec }]));
    const definitions = [...modules.values()].flatMap(({ definition }) => definition.length ? ["", "", ...definition] : []);
    const net = layers.flatMap((one, l) => [`    nn.Linear(${l ? 16 : 2}, 16),`, `    ${modules.get(one.spec).call},`]);
    const calls = [...modules.values()].map(({ spec, call }) => `    ${JSON.stringify(spec)}: ${call},`);
    const imports = ["import torch", ...(definitions.some((line) => line.includes("F.softplus")) ? ["import torch.nn.functional as F"] : []), "from torch import nn"];
    return [...imports, ...definitions, "", "", "activations = {", ...calls, "}", "net = nn.Sequential(  # network A of this page", ...net, "    nn.Linear(16, 1),", ")", ""].join("\n");
  }

  /** Copy the text of an element, from the first place of a character on. */
  async copy(source, from = "") {
    const whole = source.value ?? source.textContent, start = whole.indexOf(from), text = whole.slice(start);
    try {
      await navigator.clipboard.writeText(text);
      find("copied").textContent = "Copied.";
    } catch {  // without permission: the text is selected instead
      source.tabIndex = 0;
      source.focus();
      if (source.select) source.setSelectionRange(start, whole.length);
      else getSelection().selectAllChildren(source);
      find("copied").textContent = "The text is selected. Press Ctrl+C to copy it.";
    }
  }
}

/** Return a text as one argument of a POSIX shell. */
const quoteForShell = (text) => /^[\w.:]+$/.test(text) ? text : /["$`\\!]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`;
