// An image or a video with what an answer says of it: boxes, points, times, and the frames seen.

import { clock, make } from "./dom.js";

const COLOURS = 4; // classes of style.css
const STRIP = 48; // frames shown of a video, at most
const STRIP_HEIGHT = 72; // pixels
const NEAR = 0.14; // of the timeline: marks that are nearer stand below each other

/** `show` gives it a medium; `mark` and `markTimes` what an answer says, as often as it says more. */
export class MediumView extends HTMLElement {
  show(medium) {
    this.medium = medium;
    this.picture =
      medium.kind === "image"
        ? make("img", { src: medium.previewUrl, alt: medium.name })
        : make("video", { src: medium.previewUrl, controls: true, muted: true, playsInline: true, preload: "metadata" });
    if (medium.kind === "video") this.picture.setAttribute("aria-label", medium.name);
    this.picture.addEventListener("error", () => {
      this.append(make("p", { className: "hint" }, "This browser cannot show it; the model may see it all the same."));
    }, { once: true });
    this.overlay = make("div", { className: "overlay", "aria-hidden": "true" });
    this.caption = make("figcaption", {}, medium.name);
    const frame = make("div", { className: "frame" }, this.picture, this.overlay);
    this.append(make("figure", {}, frame, this.caption));
    return this;
  }

  /** Draws marks (`{label, numbers}`); [width, height] is the size that their numbers are of. */
  mark(marks, [width, height]) {
    this.overlay.replaceChildren(...marks.map((mark, index) => drawn(mark, index, width, height)));
    this.caption.textContent = [this.medium.name, ...marks.map(told)].join("; ");
  }

  /** Puts times (seconds) on a timeline, on which the video can be sought. */
  markTimes(times, duration) {
    if (!this.timeline) this.makeTimeline(duration);
    const ends = []; // of each row of marks
    const buttons = times.filter((time) => time <= duration).map((time) => {
      const at = duration ? time / duration : 0;
      let row = ends.findIndex((end) => at >= end);
      if (row < 0) row = ends.length;
      ends[row] = at + NEAR;
      const button = make("button", { type: "button", "aria-label": `Go to ${clock(time)}` }, clock(time));
      button.style.left = onTrack(at);
      button.style.top = `${row * 1.8}rem`;
      button.onclick = () => this.seek(time);
      return button;
    });
    this.marks.style.height = `${Math.max(1, ends.length) * 1.8}rem`;
    this.marks.replaceChildren(...buttons);
  }

  makeTimeline(duration) {
    this.slider = make("input", { type: "range", min: 0, max: duration, step: 0.01, value: 0 });
    this.slider.setAttribute("aria-label", `Position in ${this.medium.name}`);
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    this.marks = make("div", { className: "marks" });
    this.timeline = make("div", { className: "timeline" }, this.slider, this.marks);
    this.append(this.timeline);
    this.picture.addEventListener("timeupdate", () => this.told(this.picture.currentTime));
    this.told(0);
  }

  told(time) {
    this.slider.value = time;
    this.slider.setAttribute("aria-valuetext", clock(time));
  }

  seek(time) {
    this.picture.currentTime = time;
    this.told(time);
  }
}

customElements.define("saccade-medium", MediumView);

const onTrack = (at) => `calc(8px + (100% - 16px) * ${at})`; // half a thumb is left at both ends

function drawn({ label, numbers }, index, width, height) {
  const [x1, y1, x2 = x1, y2 = y1] = numbers;
  const percent = (from, whole) => `${(100 * Math.min(Math.max(from, 0), whole)) / whole}%`;
  const shape = make("div", { className: `${numbers.length === 4 ? "box" : "point"} c${index % COLOURS}` });
  if (label) shape.append(make("span", {}, label));
  shape.style.left = percent(Math.min(x1, x2), width);
  shape.style.top = percent(Math.min(y1, y2), height);
  shape.classList.toggle("high", Math.min(y1, y2) < height / 10); // no room for a label above
  if (numbers.length === 4) {
    shape.style.right = percent(width - Math.max(x1, x2), width);
    shape.style.bottom = percent(height - Math.max(y1, y2), height);
  }
  return shape;
}

function told({ label, numbers }) {
  const [x1, y1, x2, y2] = numbers;
  const where = numbers.length === 4 ? `box from ${x1}, ${y1} to ${x2}, ${y2}` : `point at ${x1}, ${y1}`;
  return label ? `${label}: ${where}` : where;
}

/** The frames that a report says were seen, drawn by seeking; each a button that calls `seek`. */
export function filmStrip(medium, { frame_times: times, source_fps: fps }, seek) {
  const step = Math.max(1, times.length / STRIP);
  const shown = Array.from({ length: Math.min(times.length, STRIP) }, (_, index) => times[Math.floor(index * step)]);
  const frames = shown.map((time) => {
    const canvas = make("canvas", { width: 1, height: STRIP_HEIGHT });
    const button = make("button", { type: "button", "aria-label": `Frame at ${clock(time)}` }, canvas, clock(time));
    button.onclick = () => seek(time);
    return { time, canvas, button };
  });
  const strip = make("div", { className: "strip", role: "group" }, ...frames.map(({ button }) => button));
  strip.setAttribute("aria-label", `Frames seen of ${medium.name}`);
  const all = shown.length === times.length ? "" : `, ${shown.length} of them shown`;
  const caption = make("p", { className: "hint" }, `${medium.name}: ${times.length} frames seen${all}`);
  drawFrames(medium, frames, 0.5 / fps).catch(() => {
    caption.textContent += ". This browser cannot show them.";
  });
  return make("div", {}, caption, strip);
}

async function drawFrames(medium, frames, into) {
  const video = make("video", { muted: true, preload: "auto", src: medium.previewUrl });
  const after = (event) =>
    new Promise((resolve, reject) => {
      video.addEventListener(event, resolve, { once: true });
      video.addEventListener("error", reject, { once: true });
    });
  await after("loadeddata");
  for (const { time, canvas } of frames) {
    const seeked = after("seeked");
    video.currentTime = Math.min(time + into, video.duration); // well into the frame
    await seeked;
    canvas.width = Math.round((STRIP_HEIGHT * video.videoWidth) / video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, STRIP_HEIGHT);
  }
}
