
"use strict";
// The page reloads itself: what one has opened stays open.
const key = `open cards of ${location.pathname}`;
const cards = [...document.querySelectorAll(".cards details")];
const titleOf = (card) => card.querySelector("b").textContent;
try {
  const opened = new Set(JSON.parse(sessionStorage.getItem(key) || "[]"));
  for (const card of cards) {
    card.open = opened.has(titleOf(card));
    card.addEventListener("toggle", () => {
      opened[card.open ? "add" : "delete"](titleOf(card));
      sessionStorage.setItem(key, JSON.stringify([...opened]));
    });
  }
} catch (error) {
  // The browser stores nothing for files: cards close.
}
