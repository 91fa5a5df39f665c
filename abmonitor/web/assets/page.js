// The page's behaviour: it follows what the monitor tells, and keeps the token and the theme.
// What it is told is put into it by changes.js, drawn by charts.js, and people act by acting.js.
"use strict";

const TOKEN = "abmonitor.token";
const THEME = "abmonitor.theme";
const SILENCE_MS = 12_000; // the monitor sends something every 5 s
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

const byId = (id) => document.getElementById(id);
const root = document.body.dataset.root;

function kept(storage, key) {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

function keep(storage, key, value) {
  try {
    if (value) storage.setItem(key, value);
    else storage.removeItem(key);
  } catch {
    // a browser that keeps nothing forgets it with the page
  }
}

function headers() {
  const token = kept(sessionStorage, TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function tell(text) {
  byId("told").textContent = text;
}

async function why(answer) {
  try {
    const told = (await answer.json()).error || answer.statusText;
    return answer.status === 401 ? `The page needs your token (button “Token” at the top): ${told}` : told;
  } catch {
    return `status ${answer.status}`;
  }
}

// --- news ---------------------------------------------------------------------------------------------

let waiting = null; // news that came while text was selected, as one

function selecting() {
  const selection = getSelection();
  return !selection.isCollapsed && byId("main").contains(selection.anchorNode);
}

function apply() {
  if (!waiting) return;
  if (selecting()) return void liveness("held", "waits while text is selected; as of");
  const news = waiting;
  waiting = null;
  if (!abmonitorChanges.put(news)) return void reload();
  if (news.series) draw(news.series);
  filter();
  liveness("live", "live, as of");
}

function liveness(state, text, refused = false) {
  const live = byId("live");
  if (live.dataset.state !== state && !refused) {
    if (state === "away") tell(`The monitor does not answer; what you see is as of ${byId("as-of").textContent} UTC.`);
    else if (live.dataset.state === "away") tell("The monitor answers again.");
  }
  live.dataset.state = document.body.dataset.live = state;
  byId("liveness").textContent = text;
}

let mark = document.body.dataset.mark;
let events = document.body.dataset.events;
let asking = null; // what ends the stream
let wait = FIRST_WAIT_MS;
let later = 0;

function heard(message) {
  const kind = /^event: (.*)$/m.exec(message)?.[1];
  wait = FIRST_WAIT_MS;
  if (kind === "news") {
    // Not by a pattern: lines of JavaScript end at U+2028, too, which JSON may hold.
    const news = JSON.parse(message.slice(message.indexOf("\ndata: ") + 7));
    mark = news.mark;
    waiting = abmonitorChanges.merged(waiting, news);
    apply();
  } else if (kind === "beat") {
    if (waiting) apply();
    else liveness("live", "live, as of");
  }
  return kind;
}

async function listen(stop) {
  let heardAt = performance.now();
  const watchdog = setInterval(() => {
    if (performance.now() - heardAt > SILENCE_MS) stop.abort();
  }, 1_000);
  try {
    const answer = await fetch(`${events}?since=${encodeURIComponent(mark)}`, { headers: headers(), cache: "no-store", signal: stop.signal });
    if (!answer.ok) {
      tell(await why(answer));
      return [401, 403, 404].includes(answer.status) ? "stop" : "refused";
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return "again";
      heardAt = performance.now();
      const messages = (text + value).split("\n\n");
      text = messages.pop();
      for (const message of messages) if (heard(message) === "bye") return "soon";
    }
  } finally {
    clearInterval(watchdog);
  }
}

// Ask for news until the page is hidden; with longer and longer breaks where nobody answers.
async function follow() {
  clearTimeout(later);
  if (!events || asking || document.hidden) return;
  const stop = new AbortController();
  asking = stop;
  let next = "again";
  try {
    next = await listen(stop);
  } catch {
    // told below
  }
  if (asking !== stop) return; // it was ended on purpose
  asking = null;
  if (next === "soon") return void (later = setTimeout(follow, 100 + Math.random() * 400));
  if (next === "again") liveness("away", "the monitor does not answer; as of");
  else liveness("away", "not live: the monitor refuses; as of", true);
  if (next === "stop") return;
  later = setTimeout(follow, wait * (0.5 + Math.random()));
  wait = Math.min(LONGEST_WAIT_MS, wait * 2);
}

// What nobody follows is not live, whatever it was when it was last seen.
function unfollowed() {
  if (["live", "held"].includes(byId("live").dataset.state)) liveness("", "asking the monitor; as of");
}

function stopFollowing() {
  const stop = asking;
  asking = null;
  clearTimeout(later);
  stop?.abort();
}

// The whole page anew, with the token: where it was shown without anything, or does not fit any more.
async function reload() {
  stopFollowing();
  try {
    const answer = await fetch(location.href.split("#")[0], { headers: { ...headers(), Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) return void tell(await why(answer));
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    byId("main").replaceWith(document.importNode(found.getElementById("main"), true));
    byId("as-of").textContent = found.getElementById("as-of").textContent;
    document.title = found.title;
    ({ mark, events } = found.body.dataset);
    waiting = null;
    begin();
  } catch {
    liveness("away", "the monitor does not answer; as of");
    later = setTimeout(reload, LONGEST_WAIT_MS);
  }
}

// --- charts -------------------------------------------------------------------------------------------

const charts = new Map();

function draw(series) {
  if (typeof abmonitorCharts === "undefined" || !series) return;
  if (charts.size) for (const chart of charts.values()) chart.update(series);
  else for (const [element, chart] of abmonitorCharts.drawAll(byId("main"), series)) charts.set(element, chart);
}

function restyle() {
  for (const chart of charts.values()) chart.restyle();
}

// --- the list: what is not looked for is hidden -------------------------------------------------------

function filter() {
  const body = byId("rows");
  if (!body) return;
  const text = byId("filter").value.trim().toLowerCase();
  const state = byId("filter-state").value;
  let shown = 0;
  for (const one of body.rows) {
    const found = one.querySelector("[data-state]").dataset;
    const fits = !state || (state === "!" ? ["bad", "watch"].includes(found.level) : found.state === state);
    one.hidden = !fits || !(!text || one.textContent.toLowerCase().includes(text));
    if (!one.hidden) shown += 1;
  }
  const told = `${shown} of ${body.rows.length} shown`;
  if (byId("shown").textContent !== told) byId("shown").textContent = told;
}

function remember() {
  const words = new URLSearchParams();
  if (byId("filter").value) words.set("q", byId("filter").value);
  if (byId("filter-state").value) words.set("state", byId("filter-state").value);
  history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
  filter();
}

// --- what is wired once -------------------------------------------------------------------------------

function useToken(value, told) {
  keep(sessionStorage, TOKEN, value);
  byId("token").value = "";
  byId("who").close();
  tell(told);
  wait = FIRST_WAIT_MS;
  if (!events || byId("main").hasAttribute("data-bare") || !value) return void reload();
  stopFollowing();
  follow();
}

function chooseTheme(chosen) {
  keep(localStorage, THEME, chosen);
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  restyle();
}

function wire() {
  byId("theme").value = kept(localStorage, THEME) || "";
  byId("theme").addEventListener("change", (event) => chooseTheme(event.target.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  byId("token-open").addEventListener("click", () => byId("who").showModal());
  byId("who-close").addEventListener("click", () => byId("who").close());
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken(byId("token").value.trim(), "The token is kept until this tab is closed.");
  });
  byId("forget").addEventListener("click", () => useToken("", "The token is forgotten."));
  wireActing();
  document.addEventListener("input", (event) => event.target.closest(".filters") && remember());
  document.addEventListener("selectionchange", () => waiting && apply());
  document.addEventListener("visibilitychange", () => (document.hidden ? (stopFollowing(), unfollowed()) : follow()));
  addEventListener("pagehide", () => (stopFollowing(), unfollowed()));
  addEventListener("pageshow", follow);
  addEventListener("online", follow);
  let before = null;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme || "";
    document.documentElement.dataset.theme = "light";
    restyle();
  });
  addEventListener("afterprint", () => {
    if (before) document.documentElement.dataset.theme = before;
    else delete document.documentElement.dataset.theme;
    restyle();
  });
}

// What has to be done for every page that is shown.
function begin() {
  if (byId("rows")) {
    const words = new URLSearchParams(location.hash.slice(1));
    byId("filter").value = words.get("q") || "";
    byId("filter-state").value = words.get("state") || "";
    filter();
  }
  const series = byId("series");
  if (series) draw(JSON.parse(series.textContent));
  if (!events) liveness("", "as of");
  follow();
}

wire();
if (byId("main").hasAttribute("data-bare")) {
  if (kept(sessionStorage, TOKEN)) reload();
} else {
  begin();
}
