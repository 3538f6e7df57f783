
"use strict";
const body = document.querySelector("#measurements tbody");
const heads = [...document.querySelectorAll("#measurements thead th")];
const select = document.querySelector(".sorting select");
const rows = [...body.rows].map((row, place) => ({
  row, place, name: row.querySelector("th").textContent, values: row.dataset.v.split(","),
}));
const byName = new Intl.Collator(undefined, { numeric: true });
const sort = (column, down) => {
  const sign = down ? -1 : 1;
  rows.sort((a, b) => {
    if (column === "name") return sign * byName.compare(a.name, b.name) || a.place - b.place;
    const [x, y] = [a.values[column], b.values[column]];
    if (x === "" || y === "") return (x === "") - (y === "") || a.place - b.place; // what is unknown comes last
    return sign * (x - y) || a.place - b.place;
  });
  body.append(...rows.map((each) => each.row));
  for (const head of heads) {
    const button = head.querySelector("button");
    if (button && button.value === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  select.value = column;
};
const down = { 1: true, 3: true }; // most frames and longest times first
for (const head of heads) {
  const button = head.querySelector("button");
  if (!button) continue;
  button.disabled = false;
  button.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    sort(button.value, now ? now === "ascending" : Boolean(down[button.value]));
  });
}
select.addEventListener("change", () => sort(select.value, Boolean(down[select.value])));
document.querySelector(".sorting").hidden = false;
