// Uploads files from the page of exports: in parts, which go on after a broken connection. The browser remembers
// which upload belongs to which files, so choosing the same files again continues it after a reload.
"use strict";

const PART = 8 * 1024 * 1024;
const PAUSES = [1000, 2000, 4000, 8000, 15000, 30000];
const form = document.getElementById("upload");
const chosen = form.querySelector("input[type=file]");
const button = form.querySelector("button");
const bar = form.querySelector("progress");
const status = document.getElementById("upload-status");
const token = form.querySelector("[name=csrfmiddlewaretoken]").value;

class Refusal extends Error {}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function tell(text) {
  status.hidden = false;
  status.textContent = text;
}

async function ask(method, path, options = {}) {
  const headers = {"X-CSRFToken": token, ...options.headers};
  const answer = await fetch(path, {...options, method, headers});
  if (answer.status >= 500 || answer.status === 429) throw new Error("The instance does not answer.");
  if (answer.status === 204) return null;
  const body = await answer.json();
  if (answer.ok) return body;
  const fields = (body.fields || []).map((field) => field.error);
  const refusal = new Refusal([body.error, ...fields].join(" "));
  refusal.status = answer.status;
  throw refusal;
}

// Repeat what fails because of the network.
async function patiently(action) {
  for (let failures = 0; ; failures++) {
    try {
      return await action();
    } catch (error) {
      if (error instanceof Refusal || failures === PAUSES.length) throw error;
      tell("The connection broke off; trying again…");
      await pause(PAUSES[failures]);
    }
  }
}

const show = async (id) => (await ask("GET", `/api/v3/uploads/${id}`)).uploads[0];

function nameOf(files, name, skip) {
  return `upload:${JSON.stringify([name, skip, files.map((file) => [file.name, file.size, file.lastModified])])}`;
}

async function begin(files, name, skip) {
  const key = nameOf(files, name, skip);
  const known = localStorage.getItem(key);
  if (known) {
    try {
      const upload = await patiently(() => show(known));
      if (upload.state === "receiving") return upload;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
  }
  const announced = files.map((file) => ({name: file.name, size: file.size}));
  const body = JSON.stringify({name, files: announced, skip_bad: skip});
  const headers = {"Content-Type": "application/json"};
  const [upload] = (await ask("POST", "/api/v3/uploads", {headers, body})).uploads;
  localStorage.setItem(key, upload.id);
  return upload;
}

async function send(upload, index, file, advance) {
  const path = `/api/v3/uploads/${upload.id}/files/${index}`;
  let offset = upload.files[index].offset;
  advance(offset);
  while (offset < file.size) {
    const before = offset;
    offset = await patiently(async () => {
      const part = await file.slice(before, before + PART).arrayBuffer();
      const headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": String(before)};
      try {
        await ask("PATCH", path, {headers, body: part});
        return before + part.byteLength;
      } catch (error) {
        if (error instanceof Refusal && error.status !== 409) throw error;
        const arrived = (await show(upload.id)).files[index].offset;
        if (arrived > before) return arrived; // the part arrived, and its answer was lost
        throw new Error(error.message);
      }
    });
    tell(`${file.name} is being sent…`);
    advance(offset - before);
  }
}

async function checked(id) {
  for (let wait = 300; ; wait = Math.min(2 * wait, 5000)) {
    const upload = await patiently(() => show(id));
    if (upload.state === "ready" || upload.state === "refused") return upload;
    tell("All files have arrived and are being checked. You may close this page.");
    await pause(wait);
  }
}

async function start(files) {
  const name = form.elements.name.value;
  const skip = form.elements.skip_bad.checked;
  let sent = 0;
  const upload = await begin(files, name, skip);
  bar.hidden = false;
  bar.max = files.reduce((sum, file) => sum + file.size, 0);
  for (const [index, file] of files.entries()) {
    await send(upload, index, file, (count) => { bar.value = sent += count; });
  }
  const ended = await checked(upload.id);
  localStorage.removeItem(nameOf(files, name, skip));
  if (ended.state === "refused") throw new Refusal(ended.reason);
  location.reload();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!chosen.files.length || button.disabled) return;
  button.disabled = true;
  try {
    await start([...chosen.files]);
  } catch (error) {
    tell(error instanceof Refusal ? error.message : `${error.message} Choose the same files to continue.`);
    status.classList.add("error");
  } finally {
    button.disabled = false;
  }
});

for (const kind of ["dragover", "drop"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    if (kind === "drop" && event.dataTransfer.files.length) chosen.files = event.dataTransfer.files;
  });
}
