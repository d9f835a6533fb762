// A request as commands that do the same: with curl and a shell, and with the openai client. Pure.

const KEY = "$OPENAI_API_KEY"; // never the key itself: what is copied gets pasted elsewhere

// Stand for the data of a file while a body is written out: no text of anybody's has this in it.
const holder = (nonce, index) => `${nonce}-${index}`;

/** The body with a holder for each medium's data, and the holders. */
function withHolders(body, media) {
  const nonce = crypto.getRandomValues(new Uint32Array(4)).join("");
  let index = 0;
  const messages = body.messages.map((message) => {
    if (typeof message.content === "string") return message;
    const content = message.content.map((part) => {
      if (part.type === "text") return part;
      const { url } = part[part.type];
      const prefix = url.slice(0, url.indexOf(",") + 1);
      return { ...part, [part.type]: { url: prefix + holder(nonce, index++) } };
    });
    return { ...message, content };
  });
  return { body: { ...body, messages }, holders: media.map((_, place) => holder(nonce, place)) };
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a shell

/** For a shell in the folder that has the files. */
export function asCurl(url, asked, media, keyed) {
  const { body, holders } = withHolders(asked, media);
  // In a here-document a shell reads these three signs.
  let json = JSON.stringify(body, null, 1).replace(/[\\$`]/g, "\\$&");
  holders.forEach((one, place) => {
    json = json.replaceAll(one, () => `$(base64 < ${quoted(`./${media[place].name}`)} | tr -d '\\n')`);
  });
  const lines = [`curl -sN ${quoted(url)} \\`];
  if (keyed) lines.push(`  -H "Authorization: Bearer ${KEY}" \\`);
  return [...lines, `  -H 'Content-Type: application/json' -d @- <<JSON`, json, "JSON", ""].join("\n");
}

/** For Python in the folder that has the files. */
export function asPython(base, asked, media, keyed) {
  const { vision, ...rest } = asked;
  const { body, holders } = withHolders(rest, media);
  let fields = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value, 4)},\n`).join("");
  holders.forEach((one, place) => {
    fields = fields.replaceAll(new RegExp(`"([^"]*)${one}"`, "g"), (_, prefix) => `"${prefix}" + data(${text(media[place].name)})`);
  });
  const file = media.length ? "import base64\nfrom pathlib import Path\n\n" : "";
  const data = "def data(name):\n    return base64.b64encode(Path(name).read_bytes()).decode()\n\n\n";
  const key = keyed ? "" : ', api_key="none"'; // else from OPENAI_API_KEY
  return `${file}from openai import OpenAI

client = OpenAI(base_url=${text(base)}${key})


${media.length ? data : ""}stream = client.chat.completions.create(
${fields}    extra_body={"vision": ${literal(vision, 4)}},
)
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
`;
}

const text = (value) => JSON.stringify(value); // a string of JSON is one of Python

function literal(value, indent) {
  const inner = " ".repeat(indent + 4);
  const list = (items, open, close) =>
    items.length ? `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${" ".repeat(indent)}${close}` : open + close;
  if (Array.isArray(value)) return list(value.map((item) => literal(item, indent + 4)), "[", "]");
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return text(value);
  return list(Object.entries(value).map(([name, item]) => `${text(name)}: ${literal(item, indent + 4)}`), "{", "}");
}
