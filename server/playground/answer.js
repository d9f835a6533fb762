// One answer: its text as it streams in, what it marks, and the report of what it took.

import { make } from "./dom.js";
import { marksIn, marksOf, timesIn } from "./marks.js";
import { filmStrip, MediumView } from "./medium-view.js";

/**
 * An answer, to be looked at and to be exported.
 *
 * Its fields, besides those of the page: `text`, `media` (of the server's report), `detections`,
 * `warnings`, `usage`, `error`, `controls` and `body` (what was asked with).
 */
export class Answer extends HTMLElement {
  /** Before it is shown: the name of its set, what is asked with, and the media of the request. */
  begin(set, controls, body, shown) {
    Object.assign(this, { set, controls, body, shown, text: "", media: [], warnings: [], views: new Map() });
    this.began = performance.now();
    this.said = make("p", { className: "text" });
    this.marked = make("div", { className: "marked" });
    this.note = make("p", { className: "note" });
    this.report = make("details", { className: "report" }, make("summary", {}, "Report"));
    this.tools = make("p", { className: "buttons" });
    this.append(make("h4", {}, `Answer ${set}`), this.said, this.marked, this.note, this.report, this.tools);
    this.setAttribute("aria-busy", "true");
    return this;
  }

  /** One chunk of the stream. */
  take(chunk) {
    const { media, detections, warnings } = chunk.vision ?? {};
    if (media) this.media = media;
    if (detections) this.detections = detections;
    if (warnings) this.warnings = [...new Set([...this.warnings, ...warnings])];
    if (chunk.usage) this.usage = chunk.usage;
    const [choice] = chunk.choices ?? [];
    if (choice?.finish_reason) this.ended = choice.finish_reason;
    const piece = choice?.delta?.content;
    if (!piece && !detections) return;
    if (piece) this.firstToken ??= performance.now() - this.began;
    this.text += piece ?? "";
    this.said.textContent = this.text;
    this.drawMarks();
  }

  /** After its last chunk, or an error, or a stop. */
  end(error) {
    this.error = error;
    this.seconds = (performance.now() - this.began) / 1000;
    this.setAttribute("aria-busy", "false");
    const notes = [...this.warnings];
    if (error) this.note.setAttribute("role", "alert");
    if (error) notes.unshift(error.name === "AbortError" ? "Stopped." : told(error, error.medium));
    if (this.ended === "length") notes.push("Cut off at max_tokens.");
    if (!this.text && !error) notes.push("The answer is empty.");
    this.note.textContent = notes.join(" ");
    this.note.classList.toggle("bad", Boolean(error) && error.name !== "AbortError");
    this.fillReport();
  }

  drawMarks() {
    const marks = this.detections?.length ? marksOf(this.detections) : marksIn(this.text);
    const times = timesIn(this.text);
    const found = JSON.stringify([marks, times]);
    if (found === this.drawn) return; // whoever is on a button stays there
    this.drawn = found;
    const last = this.media.length - 1;
    const placed = Map.groupBy(marks, ({ image }) => image ?? last); // it is open: the last one
    for (const [place, some] of placed) this.view(place)?.mark(some, this.media[place].upright_size);
    const video = this.media.findLastIndex(({ kind }) => kind === "video");
    if (times.length && video >= 0) this.view(video)?.markTimes(times, this.media[video].source_duration);
  }

  view(place) {
    if (!this.media[place] || !this.shown[place]) return null;
    if (!this.views.has(place)) {
      const view = new MediumView().show(this.shown[place]);
      this.views.set(place, view);
      this.marked.append(view);
    }
    return this.views.get(place);
  }

  fillReport() {
    const rows = this.media.map((one, place) => [
      this.shown[place]?.name ?? one.kind,
      one.upright_size.join(" × "),
      one.resized_size.join(" × "),
      one.grid.join(" × "),
      one.tokens,
    ]);
    const { prompt_tokens_details: details = {}, ...usage } = this.usage ?? {};
    const totals = [
      ["Prompt", usage.prompt_tokens, "tokens"],
      ["of images", details?.image_tokens, "tokens"],
      ["of videos", details?.video_tokens, "tokens"],
      ["cached", this.usage && (details?.cached_tokens ?? 0), "tokens"],
      ["Answer", usage.completion_tokens, "tokens"],
      ["First token after", this.firstToken && (this.firstToken / 1000).toFixed(2), "s"],
      ["All of it after", this.seconds.toFixed(2), "s"],
    ].filter(([, value]) => value !== undefined);
    if (rows.length) this.report.append(table(["Medium", "Sent", "Resized", "Grid t, h, w", "Tokens"], rows));
    this.report.append(
      make("dl", {}, ...totals.map(([name, value, unit]) => make("div", {}, make("dt", {}, name), make("dd", {}, `${value} ${unit}`)))),
    );
    this.report.addEventListener("toggle", () => this.showFrames(), { once: true });
  }

  /** The film strips: drawn where somebody looks at them, since each frame is sought. */
  showFrames() {
    this.media.forEach((one, place) => {
      if (one.kind !== "video" || !this.shown[place]) return;
      this.report.append(filmStrip(this.shown[place], one, (time) => this.goTo(place, time)));
    });
  }

  goTo(place, time) {
    const view = this.view(place);
    if (!view.timeline) view.markTimes([], this.media[place].source_duration);
    view.seek(time);
  }
}

customElements.define("saccade-answer", Answer);

function table(head, rows) {
  const line = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, {}, String(cell))));
  const whole = make("table", {}, make("thead", {}, line(head, "th")), make("tbody", {}, ...rows.map((row) => line(row, "td"))));
  return make("div", { className: "wide", tabIndex: 0, role: "group", "aria-label": "What the model saw" }, whole);
}

/** What an error says, which medium it is about, if any, and when to come again. */
export function told({ message, status, retryAfter }, medium) {
  const when = retryAfter ? ` Try again in ${retryAfter} s.` : "";
  const about = medium ? `${medium.name}: ` : "";
  return `${status ? `Error ${status}: ` : ""}${about}${message}${when}`;
}
