// One set of controls, by the names that the API knows them by, and the price of asking with it.

import { make } from "./dom.js";

const WHOLE = { step: 1, min: 0 };
const REAL = { step: "any", min: 0 };
const SIZE = [
  ["min_pixels", WHOLE, "Least area after resizing"],
  ["max_pixels", WHOLE, "Largest area after resizing"],
  ["resized_width", WHOLE, "Width to resize to, with resized_height"],
  ["resized_height", WHOLE, "Height to resize to, with resized_width"],
];
// Kind of medium, or "answer": its fields as [name, what it takes, what it does].
const FIELDS = {
  image: [...SIZE, ["detail", ["low", "high", "original"], "low: at most 512 x 512 pixels; original: never smaller"]],
  video: [
    ["fps", REAL, "Frames a second to sample, by default 2; not with nframes"],
    ["nframes", WHOLE, "Frames to sample; not with fps"],
    ["min_frames", WHOLE, "Frames to sample at least"],
    ["max_frames", WHOLE, "Frames to sample at most"],
    ["video_start", REAL, "Second at which to begin"],
    ["video_end", REAL, "Second at which to end"],
    ["total_pixels", WHOLE, "Area of all sampled frames together"],
    ...SIZE,
    ["sampling", ["frames", "time"], "time: what is on screen at even times"],
  ],
  answer: [
    ["max_tokens", WHOLE, "Tokens of the answer at most"],
    ["temperature", REAL, "0: the likeliest answer"],
    ["seed", WHOLE, "The same seed, the same answer"],
  ],
};
const TITLES = { image: "Images", video: "Videos", answer: "Answer" };

/** A set of controls; its `change` events bubble. Attribute `name`: A or B. */
export class ControlSet extends HTMLElement {
  inputs = {}; // kind -> name -> element

  connectedCallback() {
    if (this.price) return;
    this.price = make("p", { className: "price" }, "…");
    this.details = make("ul", { className: "price-details" });
    const groups = Object.keys(FIELDS).map((kind) => this.group(kind));
    groups.at(-1).open = true;
    const name = this.getAttribute("name");
    this.append(make("h3", {}, `Set ${name}`), this.price, this.details, ...groups);
    this.inputs.answer.temperature.value = "0";
    this.inputs.answer.max_tokens.value = "256";
    // Screen readers tell the price where it is asked for, not with every key.
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", `Set ${name}`);
  }

  group(kind) {
    this.inputs[kind] = {};
    const fields = FIELDS[kind].map(([name, takes, title]) => {
      const input = Array.isArray(takes)
        ? make("select", {}, ...["", ...takes].map((value) => make("option", { value }, value || "default")))
        : make("input", { type: "number", placeholder: "default", ...takes });
      input.title = title;
      input.name = name;
      this.inputs[kind][name] = input;
      return make("label", {}, name, input);
    });
    return make("details", {}, make("summary", {}, TITLES[kind]), make("div", { className: "fields" }, ...fields));
  }

  /** `{image, video, answer}`: fields that are set, as a request has them. */
  values() {
    const values = {};
    for (const [kind, inputs] of Object.entries(this.inputs)) {
      values[kind] = {};
      for (const [name, input] of Object.entries(inputs)) {
        if (input.value !== "") values[kind][name] = input.tagName === "SELECT" ? input.value : Number(input.value);
      }
    }
    return values;
  }

  /** Takes over what another set has. */
  copy(other) {
    for (const [kind, inputs] of Object.entries(this.inputs)) {
      for (const [name, input] of Object.entries(inputs)) input.value = other.inputs[kind][name].value;
    }
  }

  /** Shows a plan of `/v1/vision/plan`; `media` are those of its request, in order. */
  showPlan(plan, media) {
    this.clearErrors();
    const kinds = [["of images", plan.image_tokens], ["of videos", plan.video_tokens], ["of text", plan.text_tokens]];
    const parts = kinds.filter(([, tokens]) => tokens).map(([kind, tokens]) => `${tokens} ${kind}`);
    this.price.textContent = `${plan.prompt_tokens} of ${plan.max_model_len} tokens: ${parts.join(", ")}`;
    if (!plan.admitted) this.price.textContent += `. It would be refused: ${plan.reason}`;
    this.price.classList.toggle("bad", !plan.admitted);
    this.details.replaceChildren(
      ...plan.media.map((one, index) => {
        const frames = one.frame_times ? `, ${one.frame_times.length} frames` : "";
        const size = one.resized_size.join(" × ");
        return make("li", {}, `${media[index]?.name ?? one.kind}: ${size}${frames}, ${one.tokens} tokens`);
      }),
      ...plan.warnings.map((warning) => make("li", {}, warning)),
    );
  }

  /** Shows why there is no price, and marks the field that is to blame, if it is one of ours. */
  showError(message, param, medium) {
    this.clearErrors();
    this.price.textContent = message;
    this.price.classList.add("bad");
    this.details.replaceChildren();
    const name = param?.split(".").at(-1);
    const input = this.inputs[medium?.kind ?? "answer"][name];
    if (!input) return;
    input.setAttribute("aria-invalid", "true");
    input.closest("details").open = true;
  }

  clearErrors() {
    this.price.classList.remove("bad");
    this.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
  }
}

customElements.define("saccade-controls", ControlSet);
