// What the page asks of the server: the key, JSON, and answers as they stream in.

const KEY = "saccade-api-key"; // in sessionStorage: of this tab, gone with it

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";

export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** An answer of the server's that is an error, or none that came; `param` names a field. */
export class ApiError extends Error {
  constructor(message, { status = 0, param = null, code = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, param, code, retryAfter });
  }
}

/** The URL of a path of the API, below whatever prefix this page has. */
export const apiUrl = (path) => new URL(path, document.baseURI).href;

async function request(path, body, signal) {
  const headers = {};
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { headers, signal, method: body === undefined ? "GET" : "POST", cache: "no-store" };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(apiUrl(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const told = (await response.json().catch(() => null))?.error ?? {};
  return new ApiError(told.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    param: told.param ?? null,
    code: told.code ?? null,
    retryAfter: response.headers.get("Retry-After"),
  });
}

/** The answer to a GET, or to a POST of `body`, as JSON. */
export async function askJson(path, body, signal) {
  const response = await request(path, body, signal);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The answer broke off, or is no JSON.");
  }
}

/** The chunks of a streamed answer. Throws an ApiError where it breaks off, or says an error. */
export async function* askStream(path, body, signal) {
  const response = await request(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;
        if (line === "data: [DONE]") return;
        const chunk = JSON.parse(line.slice("data: ".length));
        if (chunk.error) throw new ApiError(chunk.error.message, chunk.error);
        yield chunk;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new ApiError("The connection broke before the answer had ended.");
}
