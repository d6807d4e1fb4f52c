// What makes the pages live and forms quicker. Every page works without it.
"use strict";

const note = document.getElementById("status");

const opened = new Map(); // what the server opens, by id: people's own choice is kept until the server changes its own
for (const one of document.querySelectorAll("details[id]")) opened.set(one.id, one.open);

// Replaces the parts of live elements that changed by those of a fragment; keeps what is open, checked, focused, scrolled.
function replace(html) {
  const fragment = document.createElement("template");
  fragment.innerHTML = html;
  for (const old of document.querySelectorAll("[data-live] > [id]")) {
    const fresh = fragment.content.getElementById(old.id);
    if (!fresh) continue;
    for (const one of old.querySelectorAll("details[id], input[type=checkbox][id]")) {
      const twin = fresh.querySelector(`#${CSS.escape(one.id)}`);
      if (!twin) continue;
      const served = twin.open;
      if (opened.get(one.id) === served) twin.open = one.open;
      opened.set(one.id, served);
      twin.checked = one.checked;
    }
    times(fresh);
    if (old.isEqualNode(fresh)) continue;
    const had = old.contains(document.activeElement) ? document.activeElement : null;
    const focused = had?.id ? `#${CSS.escape(had.id)}` : had && `[href="${CSS.escape(had.getAttribute("href") ?? "")}"]`;
    const scrolled = [old, ...old.querySelectorAll("[id]")].filter((one) => one.id && (one.scrollTop || one.scrollLeft));
    const positions = scrolled.map((one) => [one.id, one.scrollTop, one.scrollLeft]);
    old.replaceWith(fresh);
    for (const [id, top, left] of positions) document.getElementById(id)?.scrollTo(left, top);
    if (focused) (fresh.matches(focused) ? fresh : fresh.querySelector(focused))?.focus({ preventScroll: true });
  }
}

// <div data-live="/address"> receives fragments from there until the stream ends. Hidden tabs have no stream: a browser
// opens six connections to a server at most, and a seventh tab would wait for ever.
for (const element of document.querySelectorAll("[data-live]")) {
  let source = null;
  const follow = () => {
    if (document.hidden || source) return;
    source = new EventSource(element.dataset.live);
    source.addEventListener("fragment", (event) => { note.textContent = ""; replace(event.data); });
    source.addEventListener("end", () => { source.close(); document.removeEventListener("visibilitychange", changed); });
    source.onerror = () => {
      note.textContent = "Connection lost, trying again.";
      if (source.readyState === EventSource.CLOSED) reloadOnceAnswered();
    };
  };
  const changed = () => {
    if (document.hidden) { source?.close(); source = null; } else follow();
  };
  document.addEventListener("visibilitychange", changed);
  follow();
}

// Asks for this page every few seconds, and reloads it once the response is another one than "unreachable".
function reloadOnceAnswered() {
  setTimeout(async () => {
    const response = document.hidden ? null : await fetch(location.href, { method: "HEAD" }).catch(() => null);
    if (response && response.status !== 503) location.reload();
    else reloadOnceAnswered();
  }, 5000);
}
if (document.querySelector("[data-retry]")) reloadOnceAnswered();

// The server formats times in UTC; their titles add the local time.
function times(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const local = new Date(one.dateTime).toLocaleString(undefined, { timeZoneName: "short" });
    if (!one.title.endsWith(local)) one.title = `${one.title}\n${local}`;
  }
}
times(document);

// A field with data-type shows what is wrong with it while it is typed. The server has the last word.
function json(text, fits, what) {
  try { return fits(JSON.parse(text)) ? "" : `is not ${what}`; } catch (error) { return `is not JSON: ${error.message}`; }
}
const CHECKS = {
  NUMBER_INTEGER: (text) => !/^[+-]?\d+$/.test(text) ? "is not a whole number" :
    Number.isSafeInteger(Number(text)) ? "" : `whole numbers are exact only up to ${Number.MAX_SAFE_INTEGER}`,
  NUMBER_DOUBLE: (text) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) && Number.isFinite(Number(text)) ? "" : "is not a number",
  LIST: (text) => json(text, Array.isArray, "a list"),
  STRUCT: (text) => json(text, (value) => value && typeof value === "object" && !Array.isArray(value), "an object"),
};
function checkField({ target }) {
  const check = CHECKS[target.dataset?.type];
  if (!check) return;
  const wrong = target.value.trim() && check(target.value.trim());
  let shown = document.getElementById(`${target.id}-problem`);
  if (!shown) {
    shown = Object.assign(document.createElement("p"), { id: `${target.id}-problem`, className: "problem" });
    target.closest(".field").append(shown);
    target.setAttribute("aria-describedby", `${target.getAttribute("aria-describedby") ?? ""} ${shown.id}`.trim());
  }
  shown.textContent = wrong;
  shown.hidden = !wrong;
  target.setAttribute("aria-invalid", Boolean(wrong));
}
addEventListener("input", checkField);
// What was typed before this script was loaded.
for (const one of document.querySelectorAll("[data-type]:not([aria-invalid])")) if (one.value !== one.defaultValue) checkField({ target: one });

// An input would drop the line breaks of what is pasted, so a text area takes its place.
addEventListener("paste", (event) => {
  const { target: old, clipboardData } = event, text = clipboardData.getData("text/plain");
  if (old.tagName !== "INPUT" || old.dataset.type !== "STRING" || !text.includes("\n")) return;
  event.preventDefault();
  const area = document.createElement("textarea");
  for (const { name, value } of old.attributes) if (name !== "value") area.setAttribute(name, value);
  Object.assign(area, { value: old.value, rows: 4 }).setRangeText(text, old.selectionStart, old.selectionEnd, "end");
  old.replaceWith(area);
  area.focus();
});

// <form data-upload> takes a file that is dropped anywhere on the page, and shows how much of it is sent.
const uploading = () => document.querySelector("form[data-upload]");
addEventListener("dragover", (event) => {
  if (!uploading() || !event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  const form = uploading(), first = new DataTransfer();
  if (!form || !event.dataTransfer.files.length) return;
  event.preventDefault();
  first.items.add(event.dataTransfer.files[0]);
  form.elements.file.files = first.files;
  form.closest("details")?.setAttribute("open", "");
  form.querySelector("button").focus();
});
addEventListener("submit", (event) => {
  const form = event.target, call = new XMLHttpRequest();
  if (!form.matches("[data-upload]")) return;
  event.preventDefault();
  const { files } = form.elements.file, bar = form.querySelector("progress"), button = form.querySelector("button");
  const failed = (text) => { note.textContent = text; bar.hidden = true; button.disabled = false; };
  bar.hidden = false;
  button.disabled = true;
  call.upload.onprogress = (sent) => { bar.value = sent.loaded / sent.total; };
  call.onerror = () => failed("The connection broke during the upload; perhaps the file is too large.");
  call.onload = () => {
    if (call.status < 400) { location = call.responseURL; return; }
    const page = new DOMParser().parseFromString(call.responseText, "text/html"), fresh = page.querySelector("form[data-upload]");
    if (!fresh) { failed((page.querySelector("main") ?? page.body).textContent.trim()); return; }
    form.replaceWith(fresh);
    fresh.elements.file.files = files;
    (fresh.querySelector("[aria-invalid=true]") ?? fresh.querySelector("button")).focus();
  };
  call.open("POST", form.action);
  call.send(new FormData(form));
});
