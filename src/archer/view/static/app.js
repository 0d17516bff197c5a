// The pages of `archer view`: which one is shown, and what stays as it was when it is shown anew.
import { held } from "./asking.js";
import { fit, forget } from "./charts.js";
import { critic } from "./critic.js";
import { make } from "./dom.js";
import { episodes } from "./episodes.js";
import { episode } from "./game.js";
import { overview } from "./overview.js";
import { play } from "./play.js";

const PAGES = { overview, episodes, episode: (places) => episode(places.split("+")), critic, play };
const STILL = ["episodes", "episode", "critic", "play"]; // pages that stay as they are until asked for anew
const EVERY = 5000;
const WAITS = [[400, "loading …"], [4000, "loading a model: only the first time it takes so long …"]]; // after so many ms
const main = document.getElementById("main");
let asked = 0;
let stands = null; // the state of what is shown, where its page has one

function address() {
  const [name, rest] = location.hash.slice(1).split(/\/(.*)/s);
  return [PAGES[name] ? name : "overview", rest];
}

// Show the page that the address names. Answers may come in another order than they were asked for: only the last counts.
// `anew`: only if there is something new to show.
async function route(anew = false) {
  const [name, rest] = address();
  const mine = ++asked;
  const nav = { episode: "episodes" }[name] || name;
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.hash === `#${nav}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  let found;
  const patience = anew ? [] : WAITS.map(([after, words]) => setTimeout(() => wait(mine, words), after));
  try {
    found = await PAGES[name](rest);
  } catch (error) {
    found = { page: make("p", { className: "error", role: "alert" }, error.message), status: "" };
  }
  patience.forEach(clearTimeout);
  if (mine !== asked || (anew && found.state !== undefined && found.state === stands)) return;
  stands = found.state;
  main.removeAttribute("aria-busy");
  forget();
  keepPlace(() => main.replaceChildren(found.page));
  document.getElementById("status").textContent = found.status;
  if (found.shown) found.shown();
}

// Whoever waits is told so.
function wait(mine, words) {
  if (mine !== asked) return;
  main.setAttribute("aria-busy", "true");
  document.getElementById("status").textContent = words;
}

function keyOf(element) {
  return element.dataset.key || element.getAttribute("href") || element.getAttribute("name") || element.getAttribute("aria-label");
}

// What had the keyboard has it still, with what was typed, and what was unfolded stays so.
function keepPlace(replace) {
  const active = document.activeElement;
  const key = main.contains(active) && active !== main ? keyOf(active) : null;
  const unfolded = [...main.querySelectorAll("details[open]")].map(keyOf);
  replace();
  main.querySelectorAll("details").forEach((details) => { details.open = unfolded.includes(keyOf(details)); });
  if (key === null) return;
  const same = [...main.querySelectorAll(active.tagName)].find((element) => keyOf(element) === key);
  if (!same) { main.focus({ preventScroll: true }); return; }
  if (active.tagName === "INPUT") same.value = active.value;
  same.focus({ preventScroll: true });
  if (active.selectionStart != null) same.setSelectionRange(active.selectionStart, active.selectionEnd);
}

if (held) document.querySelector('nav a[href="#play"]').remove(); // there is nobody to play with
document.addEventListener("again", () => route());
window.addEventListener("hashchange", () => { route(); main.focus(); });
window.addEventListener("resize", fit);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => route()); // charts hold their colours
if (!held) setInterval(() => { if (!document.hidden && !STILL.includes(address()[0])) route(true); }, EVERY);
route();
