// Images and videos of a conversation: from dropped, pasted or picked files.

// What browsers do not know the type of, by the ends of names.
const VIDEO_NAMES = /\.(mkv|ts|mts|m2ts|mpe?g|flv|ogv|wmv|avi|mov|mp4|m4v|webm|3gp)$/i;
const IMAGE_NAMES = /\.(jpe?g|png|webp|gif|bmp|heic|heif|avif|tiff?)$/i;

/** "image", "video", or null for anything else. What a file really is, the server finds out. */
export function kindOf(file) {
  const declared = file.type.split("/")[0];
  if (declared === "image" || declared === "video") return declared;
  if (VIDEO_NAMES.test(file.name)) return "video";
  return IMAGE_NAMES.test(file.name) ? "image" : null;
}

/** A medium: `{kind, name, bytes, dataUrl, previewUrl}`. Throws an Error that says what is wrong. */
export async function readMedium(file) {
  const kind = kindOf(file);
  const name = file.name || `pasted.${file.type.split("/")[1] ?? "bin"}`;
  if (!kind) throw new Error(`${name} is neither an image nor a video.`);
  if (!file.size) throw new Error(`${name} is empty.`);
  const dataUrl = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${name} cannot be read.`));
    reader.readAsDataURL(file);
  });
  return { kind, name, bytes: file.size, dataUrl, previewUrl: URL.createObjectURL(file) };
}

/** Calls `take` with the files that are dropped on the page or pasted into it. */
export function watchDropsAndPastes(take) {
  const holdsFiles = (transfer) => transfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event.dataTransfer)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!holdsFiles(event.dataTransfer)) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    take([...event.clipboardData.files]);
  });
}

/** `1234567` as `1.2 MB`. */
export function readableSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Takes a still with the camera; gives its file to `take`. */
export async function takePicture(take) {
  const of = (part) => document.getElementById(`webcam-${part}`);
  const dialog = of("dialog");
  const view = of("view");
  of("told").textContent = "Asking for the camera…";
  of("take").disabled = true;
  dialog.showModal();
  let stream;
  dialog.onclose = () => {
    stream?.getTracks().forEach((track) => track.stop());
    view.srcObject = null;
  };
  of("cancel").onclick = () => dialog.close();
  try {
    // Browsers leave it out where a page came over plain HTTP from another machine.
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
    if (!dialog.open) throw new Error("closed");
    view.srcObject = stream;
    await view.play();
  } catch {
    if (!dialog.open) stream?.getTracks().forEach((track) => track.stop());
    of("told").textContent = "There is no camera that this page may use.";
    return;
  }
  of("told").textContent = "";
  of("take").disabled = false;
  of("take").onclick = () => {
    const canvas = document.createElement("canvas");
    canvas.width = view.videoWidth;
    canvas.height = view.videoHeight;
    canvas.getContext("2d").drawImage(view, 0, 0);
    canvas.toBlob((blob) => take([new File([blob], "camera.jpg", { type: blob.type })]), "image/jpeg", 0.92);
    dialog.close();
  };
}
