// Start the page.

import { DepthView } from "./depth-view.js";
import { roundTo } from "./formats.js";
import { Formula } from "./formula.js";
import { FunctionsView } from "./functions-view.js";
import { Network, Training, makeData } from "./network.js";
import { find } from "./page.js";
import { RandomNetwork, computeMoments, computeSaturated, describeMoments, predict } from "./propagation.js";
import { writeModule } from "./pytorch.js";
import { State } from "./state.js";
import { Parser } from "./syntax.js";
import { TakeView } from "./take-view.js";
import { TrainView } from "./train-view.js";

const data = JSON.parse(find("page-data").textContent), parser = new Parser(data.grammar), entries = new Map(Object.entries(data.entries));
const state = new State(parser, entries, data.functions, data.most), problems = state.restore(location.hash);
let timer = 0, isWaiting = false, names = "", shownDepth = "";

/** Update everything that depends on the state, once per frame. */
function changed() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    const now = state.functions.map((one) => one.spec).join("\n"), wanted = JSON.stringify([now, state.depth]), hasNewFunctions = now !== names;
    functions.update(hasNewFunctions);
    if (wanted !== shownDepth) depth.update();
    if (hasNewFunctions) train.functionsChanged();
    [names, shownDepth] = [now, wanted];
    take.update();
    clearTimeout(timer);
    timer = setTimeout(keepLink, 300);
  });
}

/** Put the state into the address, where the browser permits it. */
function keepLink() {
  try {
    history.replaceState(null, "", `#${state.write()}`);
  } catch { /* a page within a notebook has no address of its own */ }
}

const functions = new FunctionsView(state, changed), depth = new DepthView(state, changed), train = new TrainView(state, changed), take = new TakeView(state);
find("restored").textContent = problems.join(" ");
find("restored").hidden = !problems.length;
for (const link of document.querySelectorAll("[data-section]")) {
  // The address holds the state of the page, so a link to a section does not change it.
  link.addEventListener("click", (event) => {
    const section = find(link.dataset.section);
    event.preventDefault();
    section.scrollIntoView();
    section.focus({ preventScroll: true });
  });
}
addEventListener("hashchange", () => location.reload());  // another link was entered
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { train.show(); depth.update(); });
names = state.functions.map((one) => one.spec).join("\n");
functions.update(true);
depth.update();
take.update();
document.body.classList.add("ready");
performance.mark("ready");

// For the console, and for tests.
window.actlab = Object.freeze({ state, parser, entries, State, Formula, Network, Training, RandomNetwork, makeData, computeMoments, computeSaturated, describeMoments, predict, roundTo, writeModule });
