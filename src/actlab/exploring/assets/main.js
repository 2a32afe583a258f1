// Start the page.

import { DepthView } from "./depth-view.js";
import { roundTo } from "./formats.js";
import { Formula } from "./formula.js";
import { FunctionsView } from "./functions-view.js";
import { Network, Training, makeData } from "./network.js";
import { el, find } from "./page.js";
import { RandomNetwork, computeMoments, computeSaturated, describeMoments, predict } from "./propagation.js";
import { writeModule } from "./pytorch.js";
import { State } from "./state.js";
import { Parser } from "./syntax.js";
import { TakeView } from "./take-view.js";
import { TrainView } from "./train-view.js";

const data = JSON.parse(find("page-data").textContent), parser = new Parser(data.grammar), entries = new Map(Object.entries(data.entries));
const state = new State(parser, entries, data.functions, data.most), problems = state.restore(location.hash);
let timer = 0, isWaiting = false, names = "", shownDepth = "", wanted = "";

/** Update everything that depends on the state, once per frame. */
function changed() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    const now = state.functions.map((one) => one.spec).join("\n"), nowDepth = JSON.stringify([now, state.depth]), hasNewFunctions = now !== names;
    functions.update(hasNewFunctions);
    if (nowDepth !== shownDepth) depth.update();
    if (hasNewFunctions) train.functionsChanged();
    [names, shownDepth] = [now, nowDepth];
    take.update();
    markChanges();
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

/** Go to a section. */
function goTo(name) {
  find(name).scrollIntoView();
  find(name).focus({ preventScroll: true });
}

/** Return the state that a link to an experiment holds. */
function readLink(link) {
  const other = new State(parser, entries, data.functions, data.most);
  other.restore(link.hash);
  return other;
}

/** Return what an experiment sets, which does not include the window of the curves. */
const listSettings = (one) => one.write().replace(/&view=[^&]*/, "");
const watch = el("div", { id: "watch" }), status = el("span");

/** Show the task of an experiment in its section, and the answer on request. */
function showExperiment(link) {
  wanted = listSettings(readLink(link));
  const [task, answer] = [...link.parentElement.children].slice(1);
  watch.replaceChildren(el("strong", {}, link.textContent, status), " ", task.textContent, answer.cloneNode(true));
  watch.querySelector("details").open = false;
  find(link.dataset.experiment).querySelector("h2").after(watch);
  markChanges();
}

function markChanges() {
  if (wanted) status.textContent = listSettings(state) === wanted ? "." : " (settings changed).";
}

for (const link of document.querySelectorAll("[data-section]")) {
  // The address holds the state of the page, so a link to a section does not change it.
  link.addEventListener("click", (event) => { event.preventDefault(); goTo(link.dataset.section); });
}
for (const link of document.querySelectorAll("[data-experiment]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    keepLink();
    try {
      history.pushState(null, "", link.hash);  // so that the browser can go back to the user's own settings
    } catch { /* a page within a notebook has no address of its own */ }
    state.become(readLink(link));
    for (const view of [functions, depth, train]) view.load();
    showExperiment(link);
    changed();
    goTo(link.dataset.experiment);
  });
}
addEventListener("hashchange", () => location.reload());  // another link was entered
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { train.show(); depth.update(); });
names = state.functions.map((one) => one.spec).join("\n");
functions.update(true);
depth.update();
take.update();
const shown = location.hash && [...document.querySelectorAll("[data-experiment]")].find((link) => listSettings(readLink(link)) === listSettings(state));
if (shown) showExperiment(shown);
document.body.classList.add("ready");
performance.mark("ready");

// For the console, and for tests.
window.actlab = Object.freeze({ state, parser, entries, State, Formula, Network, Training, RandomNetwork, makeData, computeMoments, computeSaturated, describeMoments, predict, roundTo, writeModule });
