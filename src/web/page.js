"use strict";
// Shows /status.json and /events.json, again and again. Whatever the cluster calls its things is text here, never markup.

const EVERY = 2000;
const STALE = 10000;
const SHOWN = 500;
const GOOD = new Set(["OK-Normal"]);
const BAD = new Set(["Failed", "Missing"]);
const QUIET = new Set(["Inactive"]);

const byId = (id) => document.getElementById(id);
let latest = null;
let answered = 0;
let trouble = "";

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Replaces the rows of a table; each cell is a text, or `[text, class, details]`. */
function fill(id, rows) {
  const table = byId(id);
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const body = document.createDocumentFragment();
  for (const row of rows) {
    const line = element("tr");
    row.forEach((cell, at) => {
      const [text, className, details] = Array.isArray(cell) ? cell : [cell];
      const made = element("td");
      made.dataset.head = heads[at];
      if ((text !== "" && text !== null) || (details && details.length)) {
        const inner = element("span", text, className);
        (details || []).forEach((detail) => inner.append(element("span", detail, "detail")));
        made.append(inner);
      }
      line.append(made);
    });
    body.append(line);
  }
  table.tBodies[0].replaceChildren(body);
}

const two = (number) => String(number).padStart(2, "0");
function moment(ms) {
  const at = new Date(ms);
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  return `${day}${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

function inkOf(status) {
  if (GOOD.has(status)) return "good";
  if (BAD.has(status)) return "bad";
  return QUIET.has(status) ? "quiet" : "warning";
}

function stateOf(node) {
  if (!node.up) return ["down", "bad"];
  if (!node.answered) return ["no answer", "warning"];
  if (node.standby) return ["standby", "warning"];
  if (node.quorate === false) return ["no quorum", "bad"];
  return node.eligible === false ? ["runs nothing", "warning"] : ["up", "good"];
}

function showStatus(status) {
  const words = { healthy: "Healthy", degraded: "Degraded", critical: "Critical", unknown: "Unknown" };
  byId("light").className = `light ${status.health}`;
  byId("health").textContent = words[status.health] || status.health;
  document.title = `${words[status.health] || status.health} · drcm`;
  const quorum = status.quorum ? `, quorum ${status.quorum.quorate ? "yes" : "no"} (${status.quorum.voters_seen} of ${status.quorum.voters} voters)` : "";
  byId("seen").textContent = `seen from ${status.seen_from || "nobody"} at ${moment(status.at * 1000)}${quorum}`;
  const wishes = status.wishes.map((wish) => {
    const about = [wish.group, wish.node].filter(Boolean).join(" to ");
    return `wanted by an operator: ${wish.wish}${about ? " of " + about : ""}`;
  });
  byId("reasons").replaceChildren(...[...status.reasons, ...wishes].map((reason) => element("li", reason)));
  fill("nodes", status.nodes.map((node) => {
    const [state, ink] = stateOf(node);
    return [[node.name, "", node.hostname === node.name ? [] : [node.hostname]], node.ip, [state, ink], node.version || "", ["", "quiet", node.notes]];
  }));
  showResources();
}

function showResources() {
  if (!latest) return;
  const find = byId("find").value.trim().toLowerCase();
  const odd = byId("odd").checked;
  const chosen = latest.resources.filter((resource) => {
    const text = [resource.kind, resource.nickname, resource.owner, resource.home, resource.what, resource.status].join(" ").toLowerCase();
    return (!odd || !(GOOD.has(resource.status) || QUIET.has(resource.status))) && text.includes(find);
  });
  const shown = chosen.slice(0, SHOWN);
  byId("count").textContent = `${chosen.length} of ${latest.resources.length}${shown.length < chosen.length ? `, the first ${SHOWN} are shown` : ""}`;
  fill("resources", shown.map((resource) => {
    const since = resource.since ? [`since ${moment(resource.since * 1000)}`] : [];
    return [
      `${resource.kind}:${resource.nickname}`, [resource.status, inkOf(resource.status) + " narrow"], [resource.owner || "", "", since],
      resource.home, [resource.what, "long"], ["", "quiet", resource.notes],
    ];
  }));
}

function showEvents(events) {
  const inks = { info: "", warning: "warning", critical: "bad" };
  const span = (name, ms) => (ms === null || ms === undefined ? [] : [`${name} ${ms} ms`]);
  fill("events", [...events.events].reverse().map((event) => {
    const times = event.timeline || {};
    const line = [
      ...span("detected", times.detected_ms), ...span("stopped", times.stopped_ms), ...span("lease", times.lease_ms),
      ...span("running", times.running_ms), ...span("announced", times.announced_ms),
    ].join(", ");
    return [[moment(event.at_ms), "narrow"], event.node, [event.text, `long ${inks[event.severity]}`, line ? [line] : []]];
  }));
}

async function get(path) {
  // The address may hold the password of a visitor, which fetch refuses.
  const response = await fetch(new URL(path, location.origin + location.pathname), { cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).slice(0, 300)}`);
  return response.json();
}

function showTrouble() {
  const stale = byId("stale");
  const late = answered > 0 && Date.now() - answered > STALE;
  stale.hidden = !(trouble && (late || answered === 0));
  if (!stale.hidden) {
    stale.textContent = answered ? `no answer since ${moment(answered)}: what is shown is old (${trouble})` : `no answer: ${trouble}`;
  }
}

async function look() {
  try {
    const [status, events] = await Promise.all([get("status.json"), get("events.json")]);
    latest = status;
    answered = Date.now();
    trouble = "";
    showStatus(status);
    showEvents(events);
  } catch (error) {
    trouble = error.message || String(error);
  }
  showTrouble();
  setTimeout(look, EVERY);
}

byId("find").addEventListener("input", showResources);
byId("odd").addEventListener("change", showResources);
look();
