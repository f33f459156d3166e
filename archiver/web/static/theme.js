// Dark or light, as the viewer last chose; dark until then. Before the page is drawn, so that nothing flashes.
"use strict";

function theme() {
  try {
    return localStorage.getItem("theme") === "light" ? "light" : "dark";
  } catch {
    return "dark"; // the browser stores nothing
  }
}

function applyTheme(name) {
  document.documentElement.dataset.theme = name;
  document.querySelector('meta[name="color-scheme"]').content = name;
}

applyTheme(theme());

addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const label = () => {
    button.textContent = document.documentElement.dataset.theme === "light" ? "Dark" : "Light";
  };
  label();
  button.hidden = false;
  button.addEventListener("click", () => {
    const chosen = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    applyTheme(chosen);
    label();
    try {
      localStorage.setItem("theme", chosen);
    } catch {
      // it lasts until the next page
    }
  });
});
