// While the sound of an utterance plays, marks its words and faces and moves the playhead; a click on the timeline seeks.
for (const box of document.querySelectorAll("[data-seconds]")) {
  const audio = box.querySelector("audio"), timeline = box.querySelector(".timeline");
  if (!audio || !timeline) continue;
  const seconds = Number(box.dataset.seconds), head = timeline.querySelector(".playhead");
  const timed = [...box.querySelectorAll("[data-start]")].map((element) => ({
    element, start: Number(element.dataset.start), end: Number(element.dataset.end),
  }));
  const follow = () => {
    head.hidden = false;
    head.style.left = `${Math.min(100, 100 * audio.currentTime / seconds)}%`;
    for (const { element, start, end } of timed) {
      element.classList.toggle("now", !audio.ended && start <= audio.currentTime && audio.currentTime < end);
    }
    if (!audio.paused && !audio.ended) requestAnimationFrame(follow);
  };
  for (const event of ["play", "seeked", "ended"]) audio.addEventListener(event, follow);
  timeline.addEventListener("click", (event) => {
    const place = timeline.getBoundingClientRect();
    audio.currentTime = Math.max(0, seconds * (event.clientX - place.left) / place.width);
  });
}
