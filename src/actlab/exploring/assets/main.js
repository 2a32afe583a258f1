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
const experiments = [...document.querySelectorAll("[data-experiment]")];
let timer = 0, isWaiting = false, names = "", shownDepth = "", experiment = -1;

/** Update everything that depends on the state. */
function update() {
  const now = state.functions.map((one) => one.spec).join("\n"), nowDepth = JSON.stringify([now, state.depth]), hasNewFunctions = now !== names;
  functions.update(hasNewFunctions);
  if (nowDepth !== shownDepth) depth.update();
  if (hasNewFunctions) train.functionsChanged();
  [names, shownDepth] = [now, nowDepth];
  take.update();
  markChanges();
  clearTimeout(timer);
  timer = setTimeout(keepLink, 300);
}

/** Update once per frame. */
function changed() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    update();
  });
}

/** Put the state into the address, where the browser permits it. */
function keepLink() {
  try {
    history.replaceState({ experiment }, "", `#${state.write()}`);
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

/** Show the question of an experiment in its section, and the answer on request. */
function showExperiment(index) {
  experiment = index;
  const link = experiments[index], [task, answer] = [...link.parentElement.children].slice(1);
  const makeLink = (text, href, go) => el("a", { href, onclick: (event) => { event.preventDefault(); go(); } }, text), next = experiments[index + 1];
  const links = [makeLink("All experiments", "#experiments", () => goTo("experiments"))];
  if (next) links.push(" · ", makeLink("Next experiment", next.hash, () => next.click()));
  watch.replaceChildren(el("strong", {}, link.textContent, status), " ", task.textContent, answer.cloneNode(true), el("p", {}, ...links));
  watch.querySelector("details").open = false;
  find(link.dataset.experiment).querySelector("h2").after(watch);
  markChanges();
}

function markChanges() {
  if (experiment >= 0) status.textContent = listSettings(state) === listSettings(readLink(experiments[experiment])) ? "." : " (settings changed).";
}

for (const link of document.querySelectorAll("[data-section]")) {
  // The address holds the state of the page, so a link to a section does not change it.
  link.addEventListener("click", (event) => { event.preventDefault(); goTo(link.dataset.section); });
}
experiments.forEach((link, index) => link.addEventListener("click", (event) => {
  event.preventDefault();
  keepLink();
  try {
    history.pushState({ experiment: index }, "", link.hash);  // so that the browser can go back to the user's own settings
  } catch { /* a page within a notebook has no address of its own */ }
  state.become(readLink(link));
  for (const view of [functions, depth, train]) view.load();
  showExperiment(index);
  update();
  goTo(link.dataset.experiment);
}));
addEventListener("hashchange", () => location.reload());  // another link was entered
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { train.show(); depth.update(); });
names = state.functions.map((one) => one.spec).join("\n");
functions.update(true);
depth.update();
take.update();
const shown = history.state?.experiment ?? experiments.findIndex((link) => location.hash && listSettings(readLink(link)) === listSettings(state));
if (shown >= 0) showExperiment(shown);
document.body.classList.add("ready");
performance.mark("ready");

// For the console, and for tests.
window.actlab = Object.freeze({ state, parser, entries, State, Formula, Network, Training, RandomNetwork, makeData, computeMoments, computeSaturated, describeMoments, predict, roundTo, writeModule });
