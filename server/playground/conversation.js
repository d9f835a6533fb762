// A conversation, and the requests that are made of it. Knows no page and no server.

// Boxes, points and times in the coordinates of the files, and of our own earlier answers too.
const VISION = { report: true, coordinates: "source", times: "source", history: "source" };

/** A question: its media, its text, and for each set of controls (A, B) what was answered. */
export function makeTurn(media, text) {
  return { media, text, answers: {} };
}

/** The turns that a request of `set` carries: the last one, and before it those that were answered. */
function turnsFor(turns, set) {
  return turns.filter((turn, index) => index === turns.length - 1 || answerTo(turn, set));
}

function answerTo(turn, set) {
  return (turn.answers[set] ?? Object.values(turn.answers)[0])?.text;
}

/** The media of such a request, in order: that of the server's report. */
export function mediaFor(turns, set) {
  return turnsFor(turns, set).flatMap((turn) => turn.media);
}

/** The body of a request. `controls` as of ControlSet.values(). */
export function makeBody(turns, set, controls, model) {
  const messages = [];
  const asked = turnsFor(turns, set);
  asked.forEach((turn, index) => {
    const parts = turn.media.map(({ kind, dataUrl }) => ({
      type: `${kind}_url`,
      [`${kind}_url`]: { url: dataUrl },
      ...controls[kind],
    }));
    if (turn.text || !parts.length) parts.push({ type: "text", text: turn.text });
    messages.push({ role: "user", content: parts });
    if (index < asked.length - 1) messages.push({ role: "assistant", content: answerTo(turn, set) });
  });
  return {
    model,
    messages,
    ...controls.answer,
    stream: true,
    stream_options: { include_usage: true },
    vision: VISION,
  };
}

/** The medium that an error's path leads into, of those of the request, or undefined. */
export function mediumAt(body, param, media) {
  const parts = body.messages.flatMap(({ content }, message) =>
    content.map ? content.map(({ type }, part) => [type, `messages[${message}].content[${part}]`]) : [],
  );
  const paths = parts.filter(([type]) => type !== "text").map(([, path]) => path);
  return media[paths.findIndex((path) => param === path || param?.startsWith(`${path}.`))];
}

/** All of it, to be kept: every question, its media, and of every answer what was asked and told. */
export function exported(turns) {
  return turns.map((turn) => ({
    question: turn.text,
    media: turn.media.map(({ kind, name, bytes, dataUrl }) => ({ kind, name, bytes, url: dataUrl })),
    answers: Object.fromEntries(
      Object.entries(turn.answers).map(([set, { text, controls, media, detections, warnings, usage, error }]) => [
        set,
        { text, controls, vision: { media, detections, warnings }, usage, error: error?.message },
      ]),
    ),
  }));
}
