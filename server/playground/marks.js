// Boxes, points and times in the text of an answer, also of one that has not ended. Pure.

const NUMBER = /-?\d+(?:\.\d+)?/g;
const PLACE = /"(bbox_2d|bbox|point_2d|point)"\s*:\s*\[([-\d.,\s]*)\]/g;
const LABEL = /"(?:label|text_content)"\s*:\s*("(?:[^"\\]|\\.)*")/;
const CLOCK = /(?<![\w:.])(?:(\d{1,2}):)?(\d{1,3}):([0-5]\d(?:\.\d+)?)(?![\w:])/g;
const SECONDS = /"(?:start|end|begin|stop)?_?(?:time|timestamp|start|end|seconds?)"\s*:\s*"?(\d+(?:\.\d+)?)s?"?(?=\s*[,}\]])/g;

/** Boxes and points of an answer in JSON, as far as it has come: `{label, numbers, image}`. */
export function marksIn(text) {
  const marks = [];
  for (const place of text.matchAll(PLACE)) {
    const numbers = (place[2].match(NUMBER) ?? []).map(Number);
    if (numbers.length !== 4 && numbers.length !== 2) continue;
    // Its object, as far as it is there: a label stands before or behind the numbers.
    const begin = text.lastIndexOf("{", place.index);
    const end = text.indexOf("}", place.index);
    const label = LABEL.exec(text.slice(Math.max(begin, 0), end < 0 ? undefined : end));
    marks.push({ label: label ? JSON.parse(label[1]) : null, numbers, image: null });
  }
  return marks;
}

/** The same from the server's list, which knows more forms, and which image each is in. */
export function marksOf(detections) {
  return detections.map(({ label, bbox_2d: box, point_2d: point, image }) => ({ label, numbers: box ?? point, image }));
}

/** Times that an answer names, in seconds, each once, in order. */
export function timesIn(text) {
  const times = new Set();
  for (const [, hours, minutes, seconds] of text.matchAll(CLOCK)) {
    times.add(Number(hours ?? 0) * 3600 + Number(minutes) * 60 + Number(seconds));
  }
  for (const [, seconds] of text.matchAll(SECONDS)) times.add(Number(seconds));
  return [...times].sort((first, second) => first - second);
}
