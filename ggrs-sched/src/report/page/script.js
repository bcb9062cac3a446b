"use strict";
// The page's own work: choosing a step, filtering tables. It says on the body when it is ready and what went wrong.
addEventListener("error", (event) => { document.body.dataset.error = event.message; });

function chooseStep(step) {
  for (const part of document.querySelectorAll("[data-of-step]")) {
    part.hidden = part.dataset.ofStep !== step;
  }
  for (const button of document.querySelectorAll("button[data-step]")) {
    button.setAttribute("aria-pressed", String(button.dataset.step === step));
  }
  document.querySelectorAll("input[data-filters]").forEach(filter);
}

// Rows of the tables in the input's section that hold every word of it.
function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const tables = input.closest("section").querySelectorAll("table." + input.dataset.filters);
  let shown = 0, all = 0;
  for (const table of tables) {
    const isShown = !table.closest("[hidden]");
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      if (isShown) {
        all += 1;
        shown += row.hidden ? 0 : 1;
      }
    }
  }
  const count = words.length ? `${shown} of ${all}` : String(all);
  input.parentElement.querySelector("output").textContent = `${count} ${input.dataset.filters}`;
}

document.querySelector(".switch").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-step]");
  if (button) chooseStep(button.dataset.step);
});
for (const input of document.querySelectorAll("input[data-filters]")) {
  input.addEventListener("input", () => filter(input));
  filter(input);
}
document.body.dataset.ready = "yes";
