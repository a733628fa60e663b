// A fine-tune from start to swap, drawn from what the server says of it.
const [start, use, useForAll, back, backForAll] = ["retrain", "use-model", "use-for-all", "previous-model", "previous-for-all"].map(named);
const [stop, resume, forget, queue, problem, before] = [".stop", ".resume", ".forget", ".queue", ".problem", ".before"].map(find);
const [progress, outcome, figures, suspects] = [".progress", ".outcome", ".figures", ".suspects"].map(find);
const PHASES = { starting: "Starting", reading: "Reading", features: "Looking at the images", folds: "Judging every image by a head that did not see it", head: "Training the head", backbone: "Training the backbone" };
const CURVES = ["head", "backbone"];
const BADGES = { better: "Better", same: "No clear difference", worse: "Worse", unmeasured: "Not measured" };
const NICE = [1, 2, 4, 6, 8, 10];
let name = ""; // the run that is drawn, and the top of its axis, which only grows
let top = 0;
let last; // the run that ended last, and how; nothing before the first push
let stopping = ""; // the run that was asked to stop

const images = (count) => `${count.toLocaleString("en")} ${count === 1 ? "image" : "images"}`;
const figure = (number) => (typeof number === "number" ? number.toFixed(3) : "–");
const points = (number) => {
  const text = Math.abs(100 * number).toFixed(1);
  return text === "0.0" ? text : `${number < 0 ? "−" : "+"}${text}`;
};

function show(node, is) {
  node.hidden = !is;
}

/** In steps coarse enough to be read. */
function left(seconds) {
  if (typeof seconds !== "number") return "";
  if (seconds < 10) return "a few seconds left";
  return seconds < 90 ? `about ${Math.ceil(seconds / 5) * 5} s left` : `about ${Math.round(seconds / 60)} min left`;
}

function plan({ images: count, model, run }) {
  if (!count) return "Nothing to learn from yet: correct an image on the Tag tab and save it.";
  const told = count < 10 ? "Under 10 images it can be trained, but not judged." : count < 50 ? "So few are judged one by one, each by a model that did not see it." : "About one in five is held out to compare the models.";
  return `${images(count)} corrected so far, starting from ${model}. ${told}`;
}

// The curve

function drawCurve(run, running) {
  const losses = run.history.map((entry) => entry.loss);
  if (running && typeof run.loss === "number" && !losses.length) losses.push(run.loss);
  const highest = Math.max(...losses, 0) * 1.05;
  if (highest > top) {
    const power = 10 ** Math.floor(Math.log10(highest));
    top = power * NICE.find((step) => step * power >= highest);
  }
  const up = (loss) => 100 - Math.min(loss / (top || 1), 1) * 100;
  find(".levels").childNodes.forEach((label, i) => (label.textContent = top ? Number(((top * (2 - i)) / 2).toPrecision(3)) : ""));
  const legend = [];
  for (const phase of CURVES) {
    const entries = run.history.filter((entry) => entry.phase === phase);
    const last = entries.at(-1);
    const places = entries.map(({ epoch, epochs, loss }) => `${(100 * epoch) / (epochs ?? last.epoch)},${up(loss)}`);
    if (places.length === 1) places.push(places[0]); // or nothing would be drawn of it
    find(`polyline.${phase}`).setAttribute("points", places.join(" "));
    if (last) legend.push([phase, `${phase}: ${last.loss.toFixed(4)} after epoch ${last.epoch} of ${last.epochs ?? last.epoch}`]);
  }
  const items = legend.map(([phase, text]) => make("span", { className: phase, textContent: text }));
  find("figcaption").replaceChildren(make("span", { textContent: "Training loss" }), ...items);
  find("svg").ariaLabel = `Training loss. ${legend.map(([, text]) => text).join("; ") || "No epoch has ended yet"}.`;
  const dot = find("i");
  show(dot, running && CURVES.includes(run.phase) && typeof run.loss === "number" && run.step < run.steps);
  dot.className = run.phase;
  dot.style.left = `${(100 * run.step) / (run.steps || 1)}%`;
  dot.style.top = `${up(run.loss ?? 0)}%`;
  show(find("figure"), running || run.history.length > 1);
}

function drawProgress({ run, ending }) {
  const running = run.state === "running";
  const place = running ? before : find("[role=status]"); // what runs comes first, and how it went last
  if (progress.nextElementSibling !== place) place.before(progress);
  progress.dataset.state = run.state;
  show(progress, run.state !== "idle" && (running || ending || run.history.length > 1));
  const measuring = CURVES.includes(run.phase) && run.steps && run.step >= run.steps;
  const words = measuring ? "Measuring the new model" : (PHASES[run.phase] ?? run.phase);
  const steps = run.steps ? `${run.step.toLocaleString("en")} of ${run.steps.toLocaleString("en")}` : "";
  find(".line b").textContent = running ? words : ending;
  find(".line span").textContent = running && !measuring ? [steps, left(run.eta_seconds)].filter(Boolean).join(" · ") : "";
  show(find(".line"), running || ending);
  const bar = find("progress");
  show(bar, running);
  if (run.steps && !measuring) bar.value = run.step / run.steps;
  else bar.removeAttribute("value");
  drawCurve(run, running);
}

// The end

/** While the next one runs: which one the verdict below is of, or how it ended without one. */
function drawBefore({ run, ended, ending }) {
  show(before, run.state === "running" && ended.state !== "idle");
  before.querySelector("b").textContent = `Before it, ${ended.name}:`;
  before.querySelector("span").textContent = ending;
}

function drawSuspects({ found, cells }) {
  show(suspects, found);
  suspects.querySelector("h3").textContent = `${found.toLocaleString("en")} decided ${found === 1 ? "cell looks" : "cells look"} wrong${found > cells.length ? `, the likeliest ${cells.length} first` : ""}`;
  const items = cells.map(({ label, said, score, file_name, picture }) => {
    const image = picture ? make("img", { src: picture, alt: "", width: 56, height: 56, loading: "lazy" }) : make("span", { className: "gone" });
    image.addEventListener("error", () => image.replaceWith(make("span", { className: "gone" })), { once: true });
    const words = make("span", {}, make("bdi", { textContent: label, title: label }), make("small", { textContent: `said ${said}, score ${score.toFixed(2)}` }));
    return make("li", { title: file_name }, image, words);
  });
  suspects.querySelector("ul").replaceChildren(...items);
}

function drawResult(result) {
  for (const part of [outcome, figures]) show(part, result);
  if (!result) return;
  const [badge, words] = find(".verdict").children;
  find(".verdict").dataset.verdict = result.verdict;
  badge.textContent = BADGES[result.verdict] ?? result.verdict;
  words.textContent = result.summary;
  const warnings = find(".warnings");
  warnings.replaceChildren(...result.warnings.map((textContent) => make("li", { textContent })));
  show(warnings, result.warnings.length);
  const cell = (textContent, className = "") => make("td", { textContent, className });
  const rows = result.rows.map(({ title, nothing, old, new: now, change }) => {
    const moved = cell(typeof old === "number" && typeof now === "number" ? points(now - old) : "–");
    if (change) moved.append(make("small", { textContent: `${points(change.low)} to ${points(change.high)}`, title: "95 % interval" }));
    return make("tr", {}, make("th", { scope: "row", textContent: title }), cell(figure(nothing)), cell(figure(old)), cell(figure(now), "new"), moved);
  });
  figures.querySelector("tbody").replaceChildren(...rows);
  figures.querySelector("table + p").textContent = result.on;
  drawSuspects(result.suspects);
  const link = find(".more a");
  show(link, result.report);
  if (result.report) link.href = result.report;
  find(".more span").textContent = result.folder;
}

function drawUse({ offer, model, before, server, result, in_use: inUse }) {
  show(use, result && offer);
  use.disabled = !offer || inUse.mine;
  use.textContent = inUse.mine ? "In use for you" : "Use this model";
  show(useForAll, result && offer && server);
  useForAll.disabled = !offer || inUse.everybodys;
  useForAll.textContent = inUse.everybodys ? "In use for everybody" : "Use for everybody";
  show(back, before);
  show(backForAll, server?.before);
  back.textContent = before ? `Go back to ${before}` : "Go back";
  backForAll.textContent = server?.before ? `Give everybody ${server.before} back` : "Go back for everybody";
  back.disabled = backForAll.disabled = false;
  const others = server && server.model !== model ? ` Those who chose no model, and programs, use ${server.model}.` : "";
  find(".in-use").textContent = (result && offer) || before || server?.before ? `You use ${model}.${others}` : "";
}

/** Tell those who hear the page that a run has ended, and how. */
function announce({ run, ended, ending, result }) {
  const now = `${ended.state} ${ended.name}`;
  const told = { idle: "", done: `The fine-tune is done. ${result?.summary ?? ""}` }[ended.state] ?? ending;
  if (last !== undefined && now !== last) find("[role=status]").textContent = told;
  else if (run.name !== name) find("[role=status]").textContent = "";
  last = now;
}

/** Whoever was on a button that went away stands on the next one. */
function keepFocus(focused) {
  if (!focused || (focused.checkVisibility() && !focused.disabled)) return;
  const next = [resume, back, backForAll, use, stop, start].find((button) => button.checkVisibility() && !button.disabled);
  next?.focus({ preventScroll: true });
}

let focused = null; // the button last pressed, while its answer is on its way

drawing((value) => {
  const { run, ended } = value;
  const running = run.state === "running";
  announce(value);
  if (name !== run.name) top = 0;
  name = run.name;
  find(".plan p").textContent = plan(value);
  start.disabled = !value.images || run.waiting >= value.limit;
  start.textContent = running ? "Fine-tune again after this" : ended.is_stale ? "Start anew" : "Fine-tune";
  start.className = running || (value.result && value.offer && !value.in_use.mine) ? "plain" : "strong";
  show(stop, running);
  stop.disabled = stopping === name;
  stop.textContent = stopping === name ? "Cancelling…" : "Cancel";
  if (!running) stopping = "";
  show(resume, (ended.state === "interrupted" || ended.state === "failed") && !ended.is_stale && !ended.is_queued);
  resume.disabled = run.waiting >= value.limit;
  resume.textContent = running ? "Go on with the one before" : "Go on";
  show(queue, run.waiting);
  forget.disabled = false;
  queue.querySelector("span").textContent = `${run.waiting === 1 ? "One more waits for its turn" : `${run.waiting} more wait for their turn`}${run.waiting >= value.limit ? ", and no more can." : "."}`;
  if (value.error) problem.textContent = value.error; // it stays until a button is pressed
  if (value.error) show(problem, true);
  drawProgress(value);
  drawBefore(value);
  drawResult(value.result);
  drawUse(value);
  if (focused && (document.activeElement === document.body || document.activeElement === focused)) keepFocus(focused);
  if (focused && !focused.disabled) focused = null;
});

for (const [button, event] of [
  [start, "start"],
  [resume, "resume"],
  [forget, "forget"],
  [use, "use_model"],
  [useForAll, "use_for_all"],
  [back, "go_back"],
  [backForAll, "go_back_for_all"],
  [stop, "cancel"],
]) {
  button.addEventListener("click", () => {
    focused = button;
    button.disabled = true;
    show(problem, false);
    if (button === stop) [stopping, button.textContent] = [name, "Cancelling…"];
    trigger(event, { name: button === stop ? name : props.value.ended.name }); // the run that the person saw
  });
}
