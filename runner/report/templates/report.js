"use strict";
// A number first, as "98.1 ± 0.2" or "82,172"; what is no number stands below all numbers, in alphabetical order.
const key = (cell) => {
  const text = cell.textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return [Number.isNaN(number) ? -Infinity : number, text];
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
      rows.sort(([[a, s]], [[b, t]]) => (a === b ? s.localeCompare(t) : sign * (a < b ? -1 : 1)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
for (const input of document.querySelectorAll("[data-filter]")) {
  const place = document.getElementById(input.dataset.filter);
  const items = place.tagName === "TABLE" ? [...place.tBodies[0].rows] : [...place.querySelectorAll("details.run")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const item of items) {
      const text = (item.tagName === "DETAILS" ? item.querySelector("summary") : item).textContent.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
    }
    for (const holder of place.querySelectorAll(".part, .chapter")) {
      holder.hidden = !holder.querySelector("details.run:not([hidden])");
    }
  });
}
// What an address leads to is shown: its runs are opened and no filter hides it.
const open = () => {
  const found = location.hash && document.getElementById(location.hash.slice(1));
  if (!found) return;
  const runs = found.matches("details.run") ? [found] : [...found.querySelectorAll("details.run")];
  if (runs.length > 0 && found.id !== "runs") {
    const filter = document.querySelector('[data-filter="runs"]');
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
    if (!found.matches(".chapter")) runs.forEach((run) => { run.open = true; });
    found.scrollIntoView();
  }
};
// Curves are packed: a page of many runs would be ten times as large.
const unpack = async (image) => {
  const packed = Uint8Array.from(atob(image.dataset.svgGzip), (letter) => letter.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  image.src = URL.createObjectURL(new Blob([await new Response(plain).text()], { type: "image/svg+xml" }));
};
document.querySelectorAll("img[data-svg-gzip]").forEach(unpack);
addEventListener("hashchange", open);
addEventListener("beforeprint", () => document.querySelectorAll("details.run").forEach((run) => { run.open = true; }));
open();
