// The page: what is attached and asked, who answers, and what it would take.

import { Answer, told } from "./answer.js";
import { apiKey, apiUrl, ApiError, askJson, askStream, keepKey } from "./api.js";
import { ControlSet } from "./controls.js";
import { exported, makeBody, makeTurn, mediaFor, mediumAt } from "./conversation.js";
import { make, showCode } from "./dom.js";
import { asCurl, asPython } from "./snippets.js";
import { readableSize, readMedium, takePicture, watchDropsAndPastes } from "./media.js";

const PLAN_DELAY = 350; // ms without a change before a price is asked for
const LARGE = 8e6; // bytes of media; these are not sent again for each word of a question
const CHAT = "v1/chat/completions";

const at = (id) => document.getElementById(id);
const turns = [];
let attached = [];
let reading = Promise.resolve(); // done when all files that were given are attached
let running = null; // AbortController of the answers under way
const sets = [new ControlSet(), new ControlSet()];
sets.forEach((set, index) => set.setAttribute("name", "AB"[index]));

const active = () => (at("compare").checked ? sets : sets.slice(0, 1));
const nameOf = (set) => set.getAttribute("name");

// -- The price

let planTimer;
let planning = new AbortController();

function planSoon() {
  clearTimeout(planTimer);
  planning.abort();
  planTimer = setTimeout(planNow, PLAN_DELAY);
}

async function planNow() {
  planning = new AbortController();
  const { signal } = planning;
  const asked = [...turns, makeTurn(attached, at("question").value)];
  await Promise.all(active().map(async (set) => {
    const body = makeBody(asked, nameOf(set), set.values(), at("model").value);
    const media = mediaFor(asked, nameOf(set));
    try {
      const plan = await askJson("v1/vision/plan", body, signal);
      if (!signal.aborted) set.showPlan(plan, media);
    } catch (error) {
      if (signal.aborted || !(error instanceof ApiError)) return;
      const medium = mediumAt(body, error.param, media);
      set.showError(told(error, medium), error.param, medium);
    }
  }));
}

// -- What is attached

function attach(files) {
  reading = reading.then(() => readAll(files));
}

async function readAll(files) {
  at("refused").textContent = "";
  for (const file of files) {
    try {
      attached.push(await readMedium(file));
    } catch (error) {
      at("refused").textContent += `${error.message} `;
    }
  }
  showAttached();
}

function showAttached() {
  at("attached").replaceChildren(...attached.map((medium) => {
    const remove = make("button", { type: "button", "aria-label": `Remove ${medium.name}` }, "×");
    remove.onclick = () => {
      attached = attached.filter((other) => other !== medium);
      URL.revokeObjectURL(medium.previewUrl);
      showAttached();
      at("files").focus();
    };
    return make("li", {}, thumbnail(medium), ` ${medium.name}, ${readableSize(medium.bytes)} `, remove);
  }));
  planSoon();
}

function thumbnail({ kind, previewUrl }) {
  if (kind === "image") return make("img", { src: previewUrl, alt: "" });
  return make("video", { src: previewUrl, muted: true, preload: "metadata", "aria-hidden": "true", tabIndex: -1 });
}

// -- Asking

async function ask() {
  await reading;
  if (running) return;
  const text = at("question").value.trim();
  if (!text && !attached.length) return;
  document.querySelectorAll(".again").forEach((button) => button.remove()); // the last question's alone
  const turn = makeTurn(attached, text);
  turns.push(turn);
  attached = [];
  at("question").value = "";
  turn.element = make("article", {});
  const media = make("ul", { className: "media" }, ...turn.media.map((medium) => make("li", {}, thumbnail(medium), ` ${medium.name}`)));
  turn.element.append(make("h3", {}, `Question ${turns.length}`), make("p", { className: "text" }, text));
  if (turn.media.length) turn.element.append(media);
  turn.answersElement = make("div", { className: "answers" });
  turn.element.append(turn.answersElement);
  at("turns").append(turn.element);
  showAttached();
  answer(turn, active());
}

async function answer(turn, asking) {
  running = new AbortController();
  showRunning();
  await Promise.all(asking.map((set) => answerWith(turn, set, running.signal)));
  running = null;
  showRunning();
  planSoon();
}

async function answerWith(turn, set, signal) {
  const name = nameOf(set);
  turn.answers[name]?.remove();
  delete turn.answers[name]; // of an earlier attempt
  const controls = set.values();
  const body = makeBody(turns, name, controls, at("model").value);
  const answer = new Answer().begin(name, controls, body, mediaFor(turns, name));
  turn.answersElement.append(answer);
  answer.scrollIntoView({ block: "nearest" });
  let failure;
  try {
    for await (const chunk of askStream(CHAT, body, signal)) answer.take(chunk);
  } catch (error) {
    failure = error;
    if (error.status === 401) askForKey(error.message);
    error.medium = mediumAt(body, error.param, answer.shown);
    if (error.param) set.showError(told(error, error.medium), error.param, error.medium);
  }
  turn.answers[name] = answer;
  answer.end(failure);
  addTools(turn, set, answer);
}

function addTools(turn, set, { tools, body, shown, error }) {
  const button = (label, does, className = "") => tools.append(make("button", { type: "button", className, onclick: does }, label));
  button("As curl", () => showCode("With curl", asCurl(apiUrl(CHAT), body, shown, Boolean(apiKey()))));
  button("As Python", () => showCode("With Python", asPython(apiUrl("v1"), body, shown, Boolean(apiKey()))));
  if (error) button("Ask again", () => running || answer(turn, [set]), "again");
}

function showRunning() {
  at("stop").disabled = !running;
  at("send").disabled = Boolean(running);
  at("clear").disabled = at("export").disabled = Boolean(running) || !turns.length;
  const answers = Object.values(turns.at(-1)?.answers ?? {});
  at("status").textContent = running ? "Answering…" : answers.some(({ error }) => error) ? "Ended early" : answers.length ? "Answered" : "";
}

// -- The key, the models

function askForKey(message) {
  at("key-told").textContent = `${message ? `${message}. ` : ""}It stays in this tab, and is forgotten with it.`;
  at("key-input").value = "";
  if (!at("key-dialog").open) at("key-dialog").showModal();
}

async function loadModels() {
  try {
    const { data } = await askJson("v1/models");
    at("model").replaceChildren(...data.map(({ id }) => make("option", { value: id }, id)));
    planSoon();
  } catch (error) {
    if (error.status === 401) askForKey(apiKey() ? error.message : "");
    else at("refused").textContent = told(error);
  }
}

// -- All of it together

function clear() {
  for (const medium of turns.splice(0).flatMap((turn) => turn.media)) URL.revokeObjectURL(medium.previewUrl);
  at("turns").replaceChildren();
  showRunning();
  planSoon();
}

function save() {
  const text = JSON.stringify({ page: location.href, model: at("model").value, turns: exported(turns) }, null, 1);
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href, download: "saccade-conversation.json" }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

at("sets").append(sets[0]);
at("compare").onchange = () => {
  if (at("compare").checked) {
    at("sets").append(sets[1]);
    sets[1].copy(sets[0]);
  } else sets[1].remove();
  planSoon();
};
at("sets").addEventListener("input", planSoon);
at("question").addEventListener("input", () => {
  const bytes = [...turns.flatMap((turn) => turn.media), ...attached].reduce((sum, medium) => sum + medium.bytes, 0);
  if (bytes < LARGE) planSoon();
});
at("model").addEventListener("change", planSoon);
at("files").addEventListener("change", () => {
  attach([...at("files").files]);
  at("files").value = "";
});
at("webcam").onclick = () => takePicture(attach);
at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) running?.abort();
});
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("stop").onclick = () => running?.abort();
at("clear").onclick = clear;
at("export").onclick = save;
at("key").onclick = () => askForKey("");
at("key-cancel").onclick = () => at("key-dialog").close();
at("key-dialog").addEventListener("close", () => {
  if (at("key-dialog").returnValue !== "keep") return;
  at("key-dialog").returnValue = "";
  keepKey(at("key-input").value.trim());
  at("key-input").value = "";
  loadModels();
});
watchDropsAndPastes(attach);
loadModels();
