// Asks before acting, with a reason, and says what became of it.
"use strict";

const MEANING = {
  pause: "Nothing is done about it until it is resumed. Harm is kept in mind, and pages.",
  resume: "Ends a pause; harm that was found in it is acted on. Without a pause: you have seen why it holds.",
  rollback: "Sends all its traffic to the control.",
  rearm: "Starts a new life of a treatment that was rolled back. Give it traffic again afterwards.",
};
const TITLES = { pause: "Pause", resume: "Resume", rollback: "Roll back", rearm: "Re-arm" };

let asked = null;

function ask(button) {
  asked = { ...button.dataset };
  byId("what").textContent = `${TITLES[asked.verb]} ${asked.treatment} of ${asked.experiment}?`;
  byId("meaning").textContent = MEANING[asked.verb];
  byId("do").textContent = TITLES[asked.verb];
  byId("do").classList.toggle("danger", asked.verb === "rollback");
  byId("lasting").hidden = asked.verb !== "pause";
  byId("forcing").hidden = asked.verb !== "rearm";
  for (const id of ["reason", "until"]) byId(id).value = "";
  byId("force").checked = false;
  byId("wrong").textContent = "";
  byId("ask").showModal();
  byId("reason").focus();
}

async function act() {
  if (byId("do").disabled) return; // it is on its way
  const said = { treatment: asked.treatment, reason: byId("reason").value };
  if (!said.reason.trim()) {
    byId("wrong").textContent = "Say why: others will ask.";
    return void byId("reason").focus();
  }
  if (asked.verb === "pause" && byId("until").value) said.until = byId("until").value.trim();
  if (asked.verb === "rearm") said.force = byId("force").checked;
  byId("do").disabled = true;
  try {
    const answer = await fetch(`${root}api/v1/experiments/${encodeURIComponent(asked.experiment)}/${asked.verb}`, {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify(said),
    });
    if (!answer.ok) return void (byId("wrong").textContent = await why(answer));
    byId("ask").close();
    tell(`Done: ${TITLES[asked.verb].toLowerCase()} ${asked.treatment} of ${asked.experiment}.`);
  } catch {
    byId("wrong").textContent = "No answer: it is not known whether it was done. Look at the page.";
  } finally {
    byId("do").disabled = false;
  }
}

function wireActing() {
  byId("do").addEventListener("click", act);
  byId("cancel").addEventListener("click", () => byId("ask").close());
  byId("ask").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) act();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-verb]");
    if (button) ask(button);
  });
}
