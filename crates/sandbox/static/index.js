// The front page: addresses as the browser knows them, and the latest requests of a world.
"use strict";

const { origin, hostname, port } = window.location;
const write = (name, text) => document.querySelectorAll(`[data-${name}]`).forEach((place) => (place.textContent = text));
write("base", origin);
write("host", hostname);
write("port", port || (origin.startsWith("https") ? "443" : "80"));

const told = document.getElementById("told");
const found = document.getElementById("found");

function row(request) {
  const time = new Date(request.created * 1000).toLocaleTimeString();
  const code = request.error_code ? ` ${request.error_code}` : "";
  const cells = [
    time,
    `${request.method} ${request.path}`,
    `${request.status}${code}${request.replayed ? " (replayed)" : ""}`,
    JSON.stringify(request.params),
  ];
  const line = document.createElement("tr");
  for (const text of cells) {
    const cell = document.createElement("td");
    const inside = document.createElement("code");
    inside.textContent = text;
    cell.append(inside);
    line.append(cell);
  }
  return line;
}

document.getElementById("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = new FormData(event.target).get("key");
  found.hidden = true;
  try {
    const answer = await fetch("/_sandbox/requests", { headers: { Authorization: `Bearer ${key}` } });
    const body = await answer.json();
    if (body.error) {
      told.textContent = body.error.message;
      return;
    }
    const shown = body.data.slice(0, 50);
    told.textContent = shown.length ? `The latest ${shown.length} requests:` : "Nobody has asked this world anything yet.";
    found.querySelector("tbody").replaceChildren(...shown.map(row));
    found.hidden = !shown.length;
  } catch {
    told.textContent = "The sandbox cannot be reached.";
  }
});
