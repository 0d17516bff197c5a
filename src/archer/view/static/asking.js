// Where answers come from: the server, or what an exported file holds.
import { show } from "./dom.js";

const holder = document.getElementById("held");
export const held = holder ? JSON.parse(holder.textContent) : null;

export async function ask(path) {
  if (held) return answerHeld(path);
  return read(await fetch(path));
}

export async function send(path, content) {
  const headers = { "Content-Type": "application/json" };
  return read(await fetch(path, { method: "POST", headers, body: JSON.stringify(content) }));
}

async function read(response) {
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

function answerHeld(path) {
  const address = new URL(path, "http://held/");
  const parts = address.pathname.split("/").filter(Boolean); // api, runs, N, episodes, source, iteration, row
  if (parts.length === 2) return held.runs;
  if (parts[3] === "critic") return held.critic[parts[2]];
  if (parts.length > 4) {
    const found = held.episode[`${parts[2]}/${parts.slice(4).join("/")}`];
    if (!found) throw new Error("this game is not in the file");
    return found;
  }
  return query(parts[2], address.searchParams);
}

function query(run, wanted) {
  const source = wanted.get("source");
  const listed = held.episodes[`${run}/${source}`] || { count: 0, rows: [] };
  const given = (name) => (wanted.get(name) ? Number(wanted.get(name)) : null);
  const text = (wanted.get("text") || "").toLowerCase();
  const rows = listed.rows.filter((row) => {
    const game = held.episode[`${run}/${source}/${row.iteration}/${row.row}`];
    const words = game ? game.turns.map((turn) => `${show(turn.observation)} ${turn.utterance}`).join(" ").toLowerCase() : "";
    return (given("least") === null || row.return >= given("least"))
      && (given("most") === null || row.return <= given("most"))
      && (!wanted.get("end") || row.end === wanted.get("end"))
      && (given("iteration") === null || row.iteration === given("iteration"))
      && (given("seed") === null || row.seed === given("seed"))
      && (!text || words.includes(text));
  });
  const key = wanted.get("sort");
  const order = wanted.get("descending") === "1" ? -1 : 1;
  rows.sort((a, b) => (a[key] > b[key] ? 1 : a[key] < b[key] ? -1 : 0) * order);
  const start = Number(wanted.get("offset"));
  return { count: rows.length, rows: rows.slice(start, start + Number(wanted.get("limit"))) };
}
