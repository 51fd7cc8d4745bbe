"use strict";
// Colours the parts of an utterance by their effect on the selected class, and follows the player.
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
    const top = largest(others);
    for (const { element, effect } of others) {
      const value = effect[output], colour = `rgb(var(${value < 0 ? "--against" : "--for"}) / ${(Math.abs(value) / top).toFixed(3)})`;
      if (element.matches(".face")) element.style.borderBottomColor = colour;
      else element.style.background = colour;
      element.title = text(value);
    }
  };
  buttons.forEach((button) => button.addEventListener("click", () => show(Number(button.dataset.output))));
  show(Number(article.dataset.selected));

  const audio = article.querySelector("audio");
  if (!audio) continue;
  const seconds = Number(article.dataset.seconds), head = article.querySelector(".playhead");
  const timed = [...article.querySelectorAll("[data-start]")].map((element) => ({ element, start: Number(element.dataset.start), end: Number(element.dataset.end) }));
  const follow = () => {
    head.hidden = false;
    head.style.left = `${Math.min(100, 100 * audio.currentTime / seconds)}%`;
    for (const { element, start, end } of timed) element.classList.toggle("now", !audio.ended && start <= audio.currentTime && audio.currentTime < end);
    if (!audio.paused && !audio.ended) requestAnimationFrame(follow);
  };
  for (const event of ["play", "seeked", "ended"]) audio.addEventListener(event, follow);
  article.querySelector(".timeline").addEventListener("click", (event) => {
    const box = article.querySelector(".timeline").getBoundingClientRect();
    audio.currentTime = Math.max(0, seconds * (event.clientX - box.left) / box.width);
  });
}
