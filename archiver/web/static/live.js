// Keeps the page of the present up to date: replaces what has changed by what /live sends, and says when it doesn't.
"use strict";

const SILENT_MS = 15000; // the server sends something every 2 s

const banner = document.getElementById("connection");
let source = null;
let lastHeard = Date.now();
let lastShown = new Date();

function utc(time) {
  return time.toISOString().slice(11, 19) + " UTC";
}

// Makes `current` like `wanted` and keeps every node that it can: focus, selection and scrolling stay.
function update(current, wanted) {
  for (const { name } of [...current.attributes]) {
    if (!wanted.hasAttribute(name)) current.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  }
  const byId = new Map([...current.children].filter((it) => it.id).map((it) => [it.id, it]));
  let place = current.firstChild;
  for (const next of [...wanted.childNodes]) {
    let found = next.id ? byId.get(next.id) : place;
    if (found && next.id && found !== place) current.insertBefore(found, place);
    if (!found || found.nodeType !== next.nodeType || found.nodeName !== next.nodeName || (found.id || "") !== (next.id || "")) {
      current.insertBefore(document.importNode(next, true), place);
      continue;
    }
    place = found.nextSibling;
    if (next.nodeType === Node.ELEMENT_NODE) update(found, next);
    else if (found.nodeValue !== next.nodeValue) found.nodeValue = next.nodeValue;
  }
  while (place) {
    const rest = place.nextSibling;
    place.remove();
    place = rest;
  }
}

function show(event) {
  const focused = document.activeElement;
  const wanted = new DOMParser().parseFromString(event.data, "text/html").body;
  for (const fragment of [...wanted.children]) {
    const current = document.getElementById(fragment.id);
    if (current) update(current, fragment);
  }
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  lastShown = new Date();
  heard();
}

function heard() {
  lastHeard = Date.now();
  if (!banner.hidden) banner.hidden = true;
}

function sayNotLive() {
  const text = `Not live since ${utc(lastShown)}: the page's server doesn't answer. Still trying.`;
  if (banner.textContent !== text) banner.textContent = text;
  if (banner.hidden) banner.hidden = false;
}

function connect() {
  if (source) source.close();
  source = new EventSource("/live");
  source.addEventListener("now", show);
  source.addEventListener("error", () => {
    sayNotLive();
    // A browser gives up after some answers, such as a proxy's 502: connect again.
    if (source.readyState === EventSource.CLOSED) setTimeout(connectIfVisible, 2000);
  });
  lastHeard = Date.now();
}

function connectIfVisible() {
  if (document.visibilityState === "visible") connect();
}

// A hidden tab has no connection: browsers allow only six to one server, for all tabs.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") {
    connect();
  } else if (source) {
    source.close();
    source = null;
  }
});

setInterval(() => {
  if (source && Date.now() - lastHeard > SILENT_MS) {
    sayNotLive();
    connect();
  }
}, 2000);

connectIfVisible();
