"use strict";
// The token stays in this tab: sessionStorage goes with it, is never written to a disk by the page, and is no other site's.
const KEY = "pollux-token";
const at = id => document.getElementById(id);
const count = n => n.toLocaleString("en");

async function ask(path) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  if (answer.status === 401) {
    sessionStorage.removeItem(KEY);
    const bearer = (answer.headers.get("WWW-Authenticate") || "").startsWith("Bearer");
    at("gate").hidden = !bearer;
    at("wrong").hidden = !token;
    if (bearer) at("token").focus();
  }
  if (!answer.ok) throw new Error((await answer.text()).trim());
  at("gate").hidden = true;
  return answer;
}

async function show() {
  try {
    const s = await (await ask("api/v1/pollux/status")).json();
    const figures = {
      state: s.stale ? "stale" : s.ready ? "ready" : "not ready",
      services: count(s.services),
      endpoints: `${count(s.endpoints.healthy)} of ${count(s.endpoints.healthy + s.endpoints.unhealthy)}`,
      connections: count(s.connections.active),
      requests: count(Math.round(s.rates.requests)),
      packets: count(Math.round(s.rates.packets)),
    };
    for (const [id, text] of Object.entries(figures)) at(id).textContent = text;
    at("version").textContent = s.version;
    at("now").hidden = false;
  } catch (error) {
    at("now").hidden = true;
  }
}

at("gate").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("token").value.trim());
  at("token").value = "";
  show();
});

// A link carries no token: what needs one is fetched, and shown from memory.
document.addEventListener("click", async event => {
  const link = event.target.closest("a[data-guarded]");
  if (!link || !sessionStorage.getItem(KEY)) return;
  event.preventDefault();
  try {
    location.assign(URL.createObjectURL(await (await ask(link.getAttribute("href"))).blob()));
  } catch (error) {}
});

show();
setInterval(() => { if (!document.hidden && at("gate").hidden) show(); }, 5000);
