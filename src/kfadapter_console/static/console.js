// What makes the pages live and forms quicker. Every page works without it.
"use strict";

const status = document.getElementById("status");

// Replaces the elements of a fragment by their ids, if they changed; keeps what is open, focused and scrolled.
function replace(html) {
  const found = document.createElement("template");
  found.innerHTML = html;
  for (const fresh of [...found.content.children]) {
    const old = document.getElementById(fresh.id);
    if (!old) continue;
    for (const one of old.querySelectorAll("details[id][open]")) {
      const twin = fresh.querySelector(`#${CSS.escape(one.id)}`);
      if (twin) twin.open = true;
    }
    for (const one of old.querySelectorAll("input[type=checkbox][id]:checked")) {
      const twin = fresh.querySelector(`#${CSS.escape(one.id)}`);
      if (twin) twin.checked = true;
    }
    if (old.outerHTML === fresh.outerHTML) continue;
    const focused = old.contains(document.activeElement) && document.activeElement.id;
    const scrolled = [...old.querySelectorAll("[id]")].filter((one) => one.scrollTop || one.scrollLeft);
    const places = scrolled.map((one) => [one.id, one.scrollTop, one.scrollLeft]);
    old.replaceWith(fresh);
    for (const [id, top, left] of places) document.getElementById(id)?.scrollTo(left, top);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

// <div data-live="/address"> receives fragments from there until the stream ends.
for (const place of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(place.dataset.live);
  source.addEventListener("fragment", (event) => { status.textContent = ""; replace(event.data); });
  source.addEventListener("end", () => source.close());
  source.onerror = () => {
    status.textContent = source.readyState === EventSource.CLOSED ? "Not live any more: reload the page." : "Connection lost, trying again.";
  };
}
