// Elements without markup: text stays text, whatever a model or a file name says.

/** An element with properties (or attributes, where the name has a dash or is `role`) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** 83.25 seconds as `01:23.25`. */
export function clock(seconds) {
  const hundredths = Math.round(seconds * 100);
  const minutes = String(Math.floor(hundredths / 6000)).padStart(2, "0");
  const rest = ((hundredths % 6000) / 100).toFixed(2).padStart(5, "0").replace(/\.?0+$/, "");
  return `${minutes}:${rest.padStart(2, "0")}`;
}

/** Shows text that is to be copied; the button copies it, by whatever way the browser lets us. */
export function showCode(title, text) {
  const dialog = document.getElementById("code-dialog");
  const code = document.getElementById("code");
  const told = document.getElementById("code-told");
  document.getElementById("code-title").textContent = title;
  code.textContent = text;
  told.textContent = "";
  document.getElementById("code-close").onclick = () => dialog.close();
  document.getElementById("code-copy").onclick = async () => {
    getSelection().selectAllChildren(code);
    let copied = false;
    try {
      await navigator.clipboard.writeText(text); // not there over plain HTTP
      copied = true;
    } catch {
      copied = document.execCommand("copy");
    }
    told.textContent = copied ? "Copied." : "Selected: copy it with the keyboard.";
  };
  dialog.showModal();
}
