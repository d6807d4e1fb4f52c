// What makes the pages live and forms quicker. Every page works without it.
"use strict";

const note = document.getElementById("status");

const opened = new Map(); // what the server opens, by id: people's own choice is kept until the server changes its own
for (const one of document.querySelectorAll("details[id]")) opened.set(one.id, one.open);

// Replaces the elements of a fragment by their ids, if they changed; keeps what is open, checked, focused and scrolled.
function replace(html) {
  const found = document.createElement("template");
  found.innerHTML = html;
  for (const fresh of [...found.content.children]) {
    const old = document.getElementById(fresh.id);
    if (!old) continue;
    for (const one of old.querySelectorAll("details[id], input[type=checkbox][id]")) {
      const twin = fresh.querySelector(`#${CSS.escape(one.id)}`);
      if (!twin) continue;
      const wanted = twin.open;
      if (opened.get(one.id) === wanted) twin.open = one.open;
      opened.set(one.id, wanted);
      twin.checked = one.checked;
    }
    times(fresh);
    if (old.isEqualNode(fresh)) continue;
    const focused = old.contains(document.activeElement) && document.activeElement.id;
    const scrolled = [old, ...old.querySelectorAll("[id]")].filter((one) => one.id && (one.scrollTop || one.scrollLeft));
    const places = scrolled.map((one) => [one.id, one.scrollTop, one.scrollLeft]);
    old.replaceWith(fresh);
    for (const [id, top, left] of places) document.getElementById(id)?.scrollTo(left, top);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

// <div data-live="/address"> receives fragments from there until the stream ends. Hidden tabs have no stream: a browser
// opens six connections to a server at most, and a seventh tab would wait for ever.
for (const place of document.querySelectorAll("[data-live]")) {
  let source = null;
  const follow = () => {
    if (document.hidden || source) return;
    source = new EventSource(place.dataset.live);
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

// Asks for this page every few seconds, and reloads it once there is another answer than "unreachable".
function reloadOnceAnswered() {
  setTimeout(async () => {
    const answer = document.hidden ? null : await fetch(location.href, { method: "HEAD" }).catch(() => null);
    if (answer && answer.status !== 503) location.reload();
    else reloadOnceAnswered();
  }, 5000);
}
if (document.querySelector("[data-retry]")) reloadOnceAnswered();

// Times are said in UTC by the server; their titles add the local time.
function times(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const local = new Date(one.dateTime).toLocaleString(undefined, { timeZoneName: "short" });
    if (!one.title.endsWith(local)) one.title = `${one.title}\n${local}`;
  }
}
times(document);
