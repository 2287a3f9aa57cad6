// Keeps the page of a run up to date: long polling for the state, server-sent events for the log.
// Output of Apps is inserted as text, never as HTML.
"use strict";

const page = document.getElementById("run");
const base = `/api/v3/runs/${page.dataset.run}`;
const shownTasks = page.dataset.tasks ? `tasks=${page.dataset.tasks}` : "";
const ended = new Set(["SUCCESS", "FAILURE", "CANCELED"]);
const LINES_KEPT = 5000;

function state(element, value) {
  element.textContent = value;
  element.className = `state ${value.toLowerCase()}`;
}

function bar(element, {state, progress}) {
  element.value = progress;
  element.className = state.toLowerCase();
}

function show(run) {
  state(document.getElementById("state"), run.state);
  document.getElementById("message").textContent = run.message;
  bar(document.getElementById("progress"), run);
  const waiting = document.getElementById("waiting");
  waiting.textContent = run.waiting_for ? run.waiting_for.text : "";
  waiting.hidden = run.state !== "QUEUED" || !run.waiting_for;
  const reason = document.getElementById("reason");
  reason.textContent = run.reason_text;
  reason.hidden = !run.reason_text;
  document.getElementById("task-counts").textContent =
    Object.entries(run.task_counts).map(([name, count]) => `${count} ${name}`).join(", ");
  for (const task of run.tasks) {
    const row = document.querySelector(`tr[data-task="${task.index}"]`);
    if (!row) continue;
    state(row.querySelector(".state"), task.state);
    bar(row.querySelector("progress"), task);
    row.querySelector(".why").textContent = task.reason_text;
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const isPassing = (status) => status >= 500 || status === 429;

async function watch() {
  let seen = "";
  for (;;) {
    let answer;
    try {
      answer = await fetch(`${base}?${shownTasks}${seen ? "&wait=50" : ""}`, seen ? {headers: {"If-None-Match": seen}} : {});
    } catch {
      answer = null;
    }
    if (answer && answer.status === 200) {
      const [run] = (await answer.json()).runs;
      seen = answer.headers.get("ETag");
      show(run);
      if (ended.has(run.state)) {
        if (page.dataset.active === "yes") location.reload();
        return;
      }
    } else if (!answer || isPassing(answer.status)) {
      await pause(3000);
    } else if (answer.status !== 304) {
      return;
    }
  }
}

// A browser repeats a connection that broke, with the id of the last event, but not one that was answered with
// an error, such as 503 while the instance restarts.
function follow(after = "") {
  const log = document.getElementById("log");
  const query = after ? `&after=${encodeURIComponent(after)}` : "";
  const source = new EventSource(`${base}/log?follow=1${query}`);
  let last = after;
  source.addEventListener("error", async () => {
    if (source.readyState !== EventSource.CLOSED) return;
    for (;;) {
      await pause(3000);
      const answer = await fetch(base, {method: "HEAD"}).catch(() => null);
      if (answer && answer.ok) return follow(last);
      if (answer && !isPassing(answer.status)) return;
    }
  });
  source.addEventListener("begin", () => log.replaceChildren());
  source.addEventListener("line", (event) => {
    last = event.lastEventId;
    const line = JSON.parse(event.data);
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 5;
    log.append(document.createTextNode(`${line.task} ${line.at} ${line.text}\n`));
    while (log.childNodes.length > LINES_KEPT) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  source.addEventListener("end", () => source.close());
}

watch();
if (document.getElementById("log")) follow();
