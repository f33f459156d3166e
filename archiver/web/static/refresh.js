// Keeps a page up to date that isn't live: asks for it again every few seconds, and replaces its part `look`.
"use strict";

const INTERVAL_MS = 5000;

const look = document.getElementById("look");
const banner = document.getElementById("connection");
let lastShown = new Date();

async function refresh() {
  // Nothing is taken from under a viewer's focus or selection.
  const selection = getSelection();
  const isUsed = look.contains(document.activeElement) || (!selection.isCollapsed && look.contains(selection.anchorNode));
  if (document.visibilityState !== "visible" || isUsed) return;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    const text = await response.text();
    const wanted = new DOMParser().parseFromString(text, "text/html").getElementById("look");
    if (!wanted) throw new Error(`status ${response.status}`);
    if (wanted.innerHTML !== look.innerHTML) {
      look.replaceChildren(...[...wanted.childNodes].map((it) => document.importNode(it, true)));
    }
    lastShown = new Date();
    banner.hidden = true;
  } catch {
    banner.textContent = `Not live since ${lastShown.toISOString().slice(11, 19)} UTC: the page's server doesn't answer. Still trying.`;
    banner.hidden = false;
  }
}

setInterval(refresh, INTERVAL_MS);
