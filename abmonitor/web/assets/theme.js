// The theme that was chosen, before anything is painted.
"use strict";

(() => {
  try {
    const chosen = localStorage.getItem("abmonitor.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // a browser that keeps nothing shows the system's theme
  }
  document.documentElement.classList.add("js");
})();
