// The page's behaviour: keep the token, show the table as it is now, and ask before acting.
"use strict";

const KEY = "abmonitor.token";
const EVERY_MS = 5000;
const MEANING = {
  pause: "Nothing is done about it until it is resumed. Harm is kept in mind, and pages.",
  resume: "Ends a pause; harm that was found in it is acted on. Without a pause: you have seen why it holds.",
  rollback: "Sends all its traffic to the control.",
  rearm: "Starts a new life of a treatment that was rolled back. Give it traffic again afterwards.",
};
const byId = (id) => document.getElementById(id);
let asked = null;

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function tell(text) {
  byId("told").textContent = text;
}

async function why(answer) {
  try {
    const told = (await answer.json()).error || answer.statusText;
    return answer.status === 401 ? `The page needs your token (at the top): ${told}` : told;
  } catch {
    return `status ${answer.status}`;
  }
}

async function refresh() {
  if (byId("ask").open || document.hidden) return;
  try {
    const answer = await fetch("table", { headers: headers(), cache: "no-store" });
    if (!answer.ok) return tell(await why(answer));
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    byId("table").replaceChildren(...found.body.childNodes);
  } catch {
    tell("The monitor does not answer; the table is old.");
  }
}

function ask(button) {
  asked = { ...button.dataset };
  byId("what").textContent = `${asked.verb} ${asked.treatment} of ${asked.experiment}?`;
  byId("meaning").textContent = MEANING[asked.verb];
  byId("do").textContent = asked.verb;
  byId("lasting").hidden = asked.verb !== "pause";
  byId("forcing").hidden = asked.verb !== "rearm";
  for (const id of ["reason", "until"]) byId(id).value = "";
  byId("force").checked = false;
  byId("wrong").textContent = "";
  byId("ask").showModal();
  byId("reason").focus();
}

async function act() {
  const said = { treatment: asked.treatment, reason: byId("reason").value };
  if (!said.reason.trim()) return void (byId("wrong").textContent = "Say why: others will ask.");
  if (asked.verb === "pause" && byId("until").value) said.until = byId("until").value.trim();
  if (asked.verb === "rearm") said.force = byId("force").checked;
  byId("do").disabled = true;
  try {
    const answer = await fetch(`api/v1/experiments/${encodeURIComponent(asked.experiment)}/${asked.verb}`, {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify(said),
    });
    if (!answer.ok) return void (byId("wrong").textContent = await why(answer));
    byId("ask").close();
    tell(`Done: ${asked.verb} ${asked.treatment} of ${asked.experiment}.`);
    await refresh();
  } catch {
    byId("wrong").textContent = "No answer: it is not known whether it was done. Look at the table.";
  } finally {
    byId("do").disabled = false;
  }
}

byId("keep").addEventListener("click", () => {
  sessionStorage.setItem(KEY, byId("token").value.trim());
  byId("token").value = "";
  tell("The token is kept until this tab is closed.");
  refresh();
});
byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  tell("The token is forgotten.");
});
byId("table").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-verb]");
  if (button) ask(button);
});
byId("do").addEventListener("click", act);
byId("cancel").addEventListener("click", () => byId("ask").close());
setInterval(refresh, EVERY_MS);
refresh();
