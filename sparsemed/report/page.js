
"use strict";
for (const viewer of document.querySelectorAll(".viewer")) {
  const slides = [...viewer.querySelectorAll(".slide")];
  const range = viewer.querySelector("input");
  const show = (wanted) => {
    const number = Math.max(0, Math.min(slides.length - 1, wanted));
    slides.forEach((slide, i) => { slide.hidden = i !== number; });
    range.value = number;
    range.setAttribute("aria-valuetext", slides[number].querySelector("figcaption").textContent);
  };
  range.addEventListener("input", () => show(range.valueAsNumber));
  for (const button of viewer.querySelectorAll("button")) {
    button.addEventListener("click", () => show(range.valueAsNumber + Number(button.value)));
  }
  viewer.querySelector(".strip").removeAttribute("tabindex");
  viewer.querySelector(".controls").hidden = slides.length < 2;
  show(range.valueAsNumber);
}
for (const details of document.querySelectorAll("details")) {
  addEventListener("beforeprint", () => { details.open = true; });
}
