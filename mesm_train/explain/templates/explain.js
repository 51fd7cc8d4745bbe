"use strict";
// Colours the parts of an utterance by their effect on the selected class.
for (const article of document.querySelectorAll(".subject")) {
  const parts = [...article.querySelectorAll("[data-effect]")].map((element) => ({ element, effect: JSON.parse(element.dataset.effect) }));
  const buttons = [...article.querySelectorAll("[data-output]")];
  const text = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const show = (output) => {
    buttons.forEach((button) => button.setAttribute("aria-checked", String(Number(button.dataset.output) === output)));
    const largest = (some) => Math.max(...some.map((part) => Math.abs(part.effect[output])), 1e-6);
    const balances = parts.filter((part) => part.element.matches(".balance"));
    const others = parts.filter((part) => !part.element.matches(".balance"));
    const scale = largest(balances);
    for (const { element, effect } of balances) {
      const value = effect[output], bar = element.firstElementChild, width = 50 * Math.abs(value) / scale;
      bar.style.background = `rgb(var(${value < 0 ? "--against" : "--for"}))`;
      bar.style.width = `${width}%`;
      bar.style.left = value < 0 ? `${50 - width}%` : "50%";
      element.nextElementSibling.textContent = text(value);
    }
    // Words, faces and stretches of sound have a scale each: the modalities above say which of them weigh more.
    for (const kind of [".words *", ".face", ".stretch"]) {
      const some = others.filter((part) => part.element.matches(kind)), top = largest(some);
      for (const { element, effect } of some) {
        const value = effect[output];
        const colour = `rgb(var(${value < 0 ? "--against" : "--for"}) / ${(0.7 * Math.abs(value) / top).toFixed(3)})`;
        if (kind === ".face") element.style.borderBottomColor = colour;
        else element.style.background = colour;
        element.title = text(value);
      }
    }
  };
  buttons.forEach((button) => button.addEventListener("click", () => show(Number(button.dataset.output))));
  show(Number(article.dataset.selected));
}
