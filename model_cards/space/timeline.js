// The cursor goes with the sound, and the view with the cursor; a click seeks.
// gradio runs this once: `element` holds what `render` of timeline.py returns, of one song after the other.
const MARGIN = 40; // pixels between the cursor and the edges of the view

const part = (name) => element.querySelector(name);
const rate = () => Number(part(".track").dataset.rate); // pixels per second
let frame;

function follow() {
  const view = part(".view"), place = part("audio").currentTime * rate();
  part(".cursor").style.left = `${place}px`;
  const start = view.scrollLeft, end = start + view.clientWidth - MARGIN;
  if (place < start || place > end) view.scrollLeft = place - MARGIN;
  cancelAnimationFrame(frame);
  if (!part("audio").paused) frame = requestAnimationFrame(follow);
}

// Events of players do not bubble, but they can be captured. A player is emptied when it gets the next song.
for (const name of ["play", "pause", "seeking", "emptied"]) element.addEventListener(name, follow, true);

element.addEventListener("click", (event) => {
  const track = event.target.closest(".track");
  if (track) part("audio").currentTime = (event.clientX - track.getBoundingClientRect().left) / rate();
});
