// The filmstrip: photos that are worked through, as many of their thumbnails in the page as can be seen.
// Stands on filmstrip_bring.js.

const STEP = 76; // a thumbnail and the gap beside it, in px; page.css has the same
const SPARE = 6;
const KEPT = "tagloop-album";
const WORDS = { t: tr("to do"), d: tr("done"), s: tr("skipped"), e: tr("changed, not saved"), f: tr("cannot be read") };
const film = named("filmstrip");
const [strip, rail, bar, work, problem, reasons] = [".strip", ".rail", ".bar", ".work", ".problem", ".reasons"].map(find);
const oneColumn = matchMedia("(max-width: 860px)"); // page.css has the same
const count = (states, letter) => states.split(letter).length - 1;

let value; // what Python pushed last
let order = []; // places, in the order in which they stand
let shown = new Map(); // place → node
let focused = 0; // index in the order that Tab reaches
let entered = false;
let opened; // the place that was scrolled to last
let fetched = new Map(); // pictures of photos that come next, held so that the browser keeps them
let wasSaid; // { tagged, failed, done } of what the announcer knows

// The strip

const label = (place, index) => tr("Photo {number} of {total}, {state}", { number: `${index + 1}`, total: `${order.length}`, state: WORDS[value.states[place]] });

function tile(place, index) {
  const picture = make("img", { alt: "", decoding: "async", draggable: false });
  picture.src = `albums/${value.token}/${place}/thumbnail`;
  const node = make("button", { type: "button", tabIndex: -1 }, picture, make("i"));
  node.setAttribute("role", "option");
  node.dataset.place = place;
  node.style.left = `${index * STEP}px`;
  return node;
}

/** Put what can be seen into the page, take out what cannot. */
function drawTiles() {
  const first = Math.max(0, Math.floor(strip.scrollLeft / STEP) - SPARE);
  const last = Math.min(order.length, Math.ceil((strip.scrollLeft + strip.clientWidth) / STEP) + SPARE);
  const wanted = new Set([focused]);
  for (let index = first; index < last; index++) wanted.add(index);
  const next = new Map();
  for (const index of wanted) {
    const place = order[index];
    if (place === undefined) continue;
    const node = shown.get(place) ?? tile(place, index);
    const state = value.states[place];
    if (node.dataset.state !== state) {
      node.dataset.state = state;
      node.title = told(value.problems[place]) || WORDS[state];
    }
    node.style.left = `${index * STEP}px`;
    node.tabIndex = index === focused ? 0 : -1;
    node.setAttribute("aria-label", label(place, index));
    node.setAttribute("aria-selected", place === value.at);
    next.set(place, node);
  }
  for (const [place, node] of shown) if (!next.has(place)) node.remove();
  for (const [place, node] of next) if (!shown.has(place)) rail.append(node);
  shown = next;
}

function scrollTo(index) {
  const middle = index * STEP - (strip.clientWidth - STEP) / 2;
  strip.scrollLeft = Math.max(0, middle);
}

function focusOn(index) {
  focused = Math.min(Math.max(index, 0), order.length - 1);
  const left = focused * STEP;
  if (left < strip.scrollLeft || left + STEP > strip.scrollLeft + strip.clientWidth) scrollTo(focused);
  drawTiles();
  shown.get(order[focused])?.focus({ preventScroll: true });
}

function pick(node) {
  if (node) trigger("pick", { index: Number(node.dataset.place) });
}

// Around it

function drawBar() {
  const { states } = value;
  const [done, skipped, failed] = ["d", "s", "f"].map((letter) => count(states, letter));
  const [isAll, isNone] = [failed > 0 && done > 0 && done + failed === states.length, failed === states.length];
  find(".counts b").textContent = isAll ? tr("All done") : isNone ? unread(failed) : tr("{done} of {total} done", { done: `${done}`, total: `${states.length}` });
  const more = [isAll && tr("{count} saved", { count: done }), skipped && tr("{count} skipped", { count: skipped }), failed && !isNone && tr("{count} cannot be read", { count: failed })].filter(Boolean);
  find(".counts span").textContent = more.join(" · ");
  reasons.hidden = !failed;
  const texts = value.reasons.map(told);
  if (texts.join("\n") !== [...reasons.children].map(({ textContent }) => textContent).join("\n")) // else somebody may be copying
    reasons.replaceChildren(...texts.map((textContent) => make("li", { textContent })));
  named("order").value = value.by;
  find(".close").hidden = !value.own;
}

const unread = (count) => tr.many(count, "{count} photo cannot be read.", "{count} photos cannot be read.");

/** Say once that all are tagged, that some cannot be read, and that all are done; not what was so when they were brought. */
function announce() {
  const { states, running, token } = value;
  const failed = count(states, "f");
  const now = { token, failed, isTagged: !running && value.tagged >= states.length, isDone: failed < states.length && count(states, "d") + failed === states.length };
  const before = wasSaid?.token === token ? wasSaid : { failed: 0, isTagged: now.isTagged, isDone: now.isDone };
  wasSaid = now;
  const news = [
    now.isTagged && !before.isTagged && tr("All photos are tagged."),
    failed > before.failed && !running && unread(failed),
    now.isDone && !before.isDone && tr("All photos are done."),
  ].filter(Boolean);
  if (running) wasSaid.failed = before.failed; // how many they are is said when all are tagged
  if (news.length) find(".announcer").textContent = news.join(" ");
}

/** Have the browser fetch the pictures of the photos that come next, when it has nothing else to do. */
function fetchAhead() {
  const { token, ahead } = value;
  const key = (place) => `${token}/${place}`;
  fetched = new Map([...fetched].filter(([name]) => [value.at, ...ahead].some((place) => key(place) === name)));
  const fetchOne = async (place) => {
    if (value.token !== token || fetched.has(key(place)) || !value.ahead.includes(place)) return;
    const picture = make("img", { fetchPriority: "low", decoding: "async" });
    fetched.set(key(place), picture);
    try {
      const { path } = await (await fetch(`albums/${key(place)}/picture`, { priority: "low" })).json();
      if (path) picture.src = `gradio_api/file=${path}`; // as gradio shows it
      if (path) await picture.decode();
    } catch {
      fetched.delete(key(place)); // the photo will be fetched when it is opened
    }
  };
  const whenIdle = window.requestIdleCallback ?? setTimeout;
  whenIdle(async () => {
    for (const place of ahead) await fetchOne(place);
  });
}

function remaining(seconds) {
  if (seconds === null) return "";
  const isShort = seconds < 90;
  const left = isShort ? Math.max(1, Math.round(seconds)) : Math.round(seconds / 60);
  return ` · ${isShort ? tr("{count} s left", { count: left }) : tr("{count} min left", { count: left })}`;
}

function drawWork() {
  const bar = find("progress");
  bar.ariaLabel = sending ? tr("Bringing photos") : tr("Tagging photos");
  const stop = named("cancel-tagging");
  const total = value.states?.length ?? 0;
  const text = find(".work span");
  const unfinished = value.token && value.tagged < total;
  work.hidden = !(sending || (value.token && (value.running || unfinished)));
  if (sending) {
    bar.value = sending.total ? sending.done / sending.total : 0;
    text.textContent = tr.many(sending.total, "Bringing {done} of {count} file", "Bringing {done} of {count} files", sending);
    stop.textContent = tr("Stop");
  } else if (!work.hidden) {
    bar.value = total ? value.tagged / total : 0;
    const done = { done: value.tagged, total };
    text.textContent = value.running
      ? tr("Tagged {done} of {total}", done) + remaining(value.eta_seconds)
      : tr("Stopped at {done} of {total}; the rest is tagged when it is opened", done);
    stop.textContent = value.running ? tr("Stop") : tr("Go on");
  }
}

function tell(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

drawing((pushed) => {
  const before = value;
  value = pushed;
  const total = value.states?.length ?? 0;
  const places = value.order ? new Int32Array(Uint8Array.from(atob(value.order), (c) => c.charCodeAt(0)).buffer) : null;
  order = places ? Array.from(places) : Array.from({ length: total }, (_, place) => place);
  if (before?.token !== value.token) {
    for (const node of shown.values()) node.remove();
    shown = new Map();
    opened = undefined;
    focused = 0;
    if (entered) sessionStorage.setItem(KEPT, value.own ? value.token : "");
  }
  const has = Boolean(value.token) && total > 0;
  film.dataset.has = has ? "photos" : "nothing";
  bar.hidden = strip.hidden = !has;
  for (const node of film.querySelectorAll(".invite")) node.hidden = has;
  document.getElementById("queue")?.classList.toggle("working", has);
  if (has) {
    rail.style.width = `${total * STEP - 4}px`;
    if (before?.by !== value.by || before.order !== value.order) opened = undefined; // it stands elsewhere
    if (value.at !== opened) {
      const isNext = before?.token === value.token && before.at !== value.at && value.at >= 0;
      if (isNext && oneColumn.matches) document.getElementById("picture")?.scrollIntoView({ block: "start" });
      opened = value.at;
      const index = order.indexOf(value.at);
      if (index >= 0) {
        focused = index;
        scrollTo(index);
      }
    }
    drawBar();
    drawTiles();
    announce();
    fetchAhead();
  }
  drawWork();
  tell(told(value.message) || value.problem || leftOut);
  if (!entered) {
    entered = true;
    trigger("enter", { token: sessionStorage.getItem(KEPT) ?? "" });
  }
  if (waiting.length && value.own && !sending) send();
});

/** What the grid holds of these photos and has not saved, by key; see grid.js. */
const inGrid = () => [...(globalThis.tagloopGrid ?? [])].filter(([, { album, pending }]) => album === value.token && pending.size);

/** Close, which asks once more in its own place where decisions would go with the photos. */
const close = named("close-queue");
close.addEventListener("click", () => {
  const count = inGrid().reduce((sum, [, { pending }]) => sum + pending.size, 0);
  if (!count) return putAway();
  const text = tr.many(count, "{count} decision on the Grid tab is not saved.", "{count} decisions on the Grid tab are not saved.");
  const yes = make("button", { type: "button", className: "plain small danger", textContent: tr("Close without saving") });
  const no = make("button", { type: "button", className: "plain small", textContent: tr("Keep") });
  const asking = make("span", { className: "asking" }, make("b", { textContent: text, role: "alert" }), yes, no);
  const answer = (isYes) => {
    asking.replaceWith(close);
    if (isYes) putAway();
    else close.focus();
  };
  yes.addEventListener("click", () => answer(true));
  no.addEventListener("click", () => answer(false));
  asking.addEventListener("keydown", (event) => event.key === "Escape" && answer(false));
  close.replaceWith(asking);
  no.focus();
});

function putAway() {
  for (const [key] of inGrid()) globalThis.tagloopGrid.delete(key);
  leftOut = "";
  sending?.stop.abort();
  trigger("close");
}
named("order").addEventListener("change", (event) => trigger("sort", { by: event.target.value }));
named("cancel-tagging").addEventListener("click", () => {
  if (sending) sending.stop.abort();
  else trigger(value.running ? "cancel" : "go_on");
});
rail.addEventListener("click", (event) => pick(event.target.closest("[data-place]")));
rail.addEventListener("focusin", (event) => {
  const node = event.target.closest("[data-place]");
  if (node) focused = order.indexOf(Number(node.dataset.place));
});
strip.addEventListener("keydown", (event) => {
  const to = { ArrowRight: focused + 1, ArrowLeft: focused - 1, Home: 0, End: order.length - 1 }[event.key];
  if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  focusOn(to);
});
addKeys(tr("Photos, while the strip has the focus"), strip, [
  ["← →", tr("Go from photo to photo; Home and End to the first and last")],
  ["Enter", tr("Open the photo")],
]);
let drawn = 0;
strip.addEventListener("scroll", () => {
  drawn ||= requestAnimationFrame(() => {
    drawn = 0;
    if (element.isConnected && value?.token) drawTiles();
  });
}, { passive: true });
new ResizeObserver(() => value?.token && drawTiles()).observe(strip);
