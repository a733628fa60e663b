// A fine-tune from start to swap, drawn from what the server says of it.
const [start, use, useForAll, back, backForAll] = ["retrain", "use-model", "use-for-all", "previous-model", "previous-for-all"].map(named);
const [stop, resume, forget, queue, problem, before] = [".stop", ".resume", ".forget", ".queue", ".problem", ".before"].map(find);
const [progress, outcome, figures, suspects] = [".progress", ".outcome", ".figures", ".suspects"].map(find);
const PHASES = {
  starting: tr("Starting"),
  reading: tr("Reading"),
  features: tr("Looking at the images"),
  folds: tr("Judging every image by a head that did not see it"),
  head: tr("Training the head"),
  backbone: tr("Training the backbone"),
};
const CURVES = { head: tr("head"), backbone: tr("backbone") };
const BADGES = { better: tr("Better"), same: tr("No clear difference"), worse: tr("Worse"), unmeasured: tr("Not measured") };
const SAID = { present: tr("present"), absent: tr("absent") };
const NICE = [1, 2, 4, 6, 8, 10];
let name = ""; // the run that is drawn, and the top of its axis, which only grows
let top = 0;
let last; // the run that ended last, and how; nothing before the first push
let stopping = ""; // the run that was asked to stop

const images = (count) => tr.many(count, "{count} image", "{count} images");
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
  if (seconds < 10) return tr("a few seconds left");
  if (seconds < 90) return tr("about {count} s left", { count: Math.ceil(seconds / 5) * 5 });
  return tr("about {count} min left", { count: Math.round(seconds / 60) });
}

function plan({ images: count, model, run }) {
  if (!count) return tr("Nothing to learn from yet: correct an image on the Tag tab and save it.");
  const judged =
    count < 10
      ? tr("Under 10 images it can be trained, but not judged.")
      : count < 50
        ? tr("So few are judged one by one, each by a model that did not see it.")
        : tr("About one in five is held out to compare the models.");
  return tr("{images} corrected so far, starting from {model}. {judged}", { images: images(count), model, judged });
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
  for (const [phase, called] of Object.entries(CURVES)) {
    const entries = run.history.filter((entry) => entry.phase === phase);
    const last = entries.at(-1);
    const places = entries.map(({ epoch, epochs, loss }) => `${(100 * epoch) / (epochs ?? last.epoch)},${up(loss)}`);
    if (places.length === 1) places.push(places[0]); // or nothing would be drawn of it
    find(`polyline.${phase}`).setAttribute("points", places.join(" "));
    if (!last) continue;
    const values = { phase: called, loss: last.loss.toFixed(4), epoch: last.epoch, epochs: last.epochs ?? last.epoch };
    legend.push([phase, tr("{phase}: {loss} after epoch {epoch} of {epochs}", values)]);
  }
  const items = legend.map(([phase, text]) => make("span", { className: phase, textContent: text }));
  find("figcaption").replaceChildren(make("span", { textContent: tr("Training loss") }), ...items);
  const epochs = legend.map(([, text]) => text).join("; ") || tr("No epoch has ended yet");
  find("svg").ariaLabel = tr("Training loss. {epochs}.", { epochs });
  const dot = find("i");
  show(dot, running && run.phase in CURVES && typeof run.loss === "number" && run.step < run.steps);
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
  const measuring = run.phase in CURVES && run.steps && run.step >= run.steps;
  const words = measuring ? tr("Measuring the new model") : (PHASES[run.phase] ?? run.phase);
  const steps = run.steps ? tr("{number} of {total}", { number: run.step, total: run.steps }) : "";
  find(".line b").textContent = running ? words : told(ending);
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
  before.querySelector("b").textContent = tr("Before it, {run}:", { run: ended.name });
  before.querySelector("span").textContent = told(ending);
}

function drawSuspects({ found, cells }) {
  show(suspects, found);
  suspects.querySelector("h3").textContent =
    found > cells.length
      ? tr.many(found, "{count} decided cell looks wrong, the likeliest {shown} first", "{count} decided cells look wrong, the likeliest {shown} first", { shown: cells.length })
      : tr.many(found, "{count} decided cell looks wrong", "{count} decided cells look wrong");
  const items = cells.map(({ label, said, score, file_name, picture }) => {
    const image = picture ? make("img", { src: picture, alt: "", width: 56, height: 56, loading: "lazy" }) : make("span", { className: "gone" });
    image.addEventListener("error", () => image.replaceWith(make("span", { className: "gone" })), { once: true });
    const words = make("span", {}, make("bdi", { textContent: label, title: label }), make("small", { textContent: tr("said {said}, score {score}", { said: SAID[said] ?? said, score: score.toFixed(2) }) }));
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
  words.textContent = told(result.summary);
  const warnings = find(".warnings");
  warnings.replaceChildren(...result.warnings.map((warning) => make("li", { textContent: told(warning) })));
  show(warnings, result.warnings.length);
  const cell = (textContent, className = "") => make("td", { textContent, className });
  const rows = result.rows.map(({ title, nothing, old, new: now, change }) => {
    const moved = cell(typeof old === "number" && typeof now === "number" ? points(now - old) : "–");
    if (change) moved.append(make("small", { textContent: tr("{low} to {high}", { low: points(change.low), high: points(change.high) }), title: tr("95 % interval") }));
    return make("tr", {}, make("th", { scope: "row", textContent: told(title) }), cell(figure(nothing)), cell(figure(old)), cell(figure(now), "new"), moved);
  });
  figures.querySelector("tbody").replaceChildren(...rows);
  figures.querySelector("table + p").textContent = told(result.on);
  drawSuspects(result.suspects);
  const link = find(".more a");
  show(link, result.report);
  if (result.report) link.href = result.report;
  find(".more span").textContent = told(result.folder);
}

function drawUse({ offer, model, before, server, result, in_use: inUse }) {
  show(use, result && offer);
  use.disabled = !offer || inUse.mine;
  use.textContent = inUse.mine ? tr("In use for you") : tr("Use this model");
  show(useForAll, result && offer && server);
  useForAll.disabled = !offer || inUse.everybodys;
  useForAll.textContent = inUse.everybodys ? tr("In use for everybody") : tr("Use for everybody");
  show(back, before);
  show(backForAll, server?.before);
  back.textContent = before ? tr("Go back to {model}", { model: before }) : tr("Go back");
  backForAll.textContent = server?.before ? tr("Give everybody {model} back", { model: server.before }) : tr("Go back for everybody");
  back.disabled = backForAll.disabled = false;
  const isMine = !server || server.model === model;
  const said = isMine
    ? tr("You use {model}.", { model })
    : tr("You use {model}. Those who chose no model, and programs, use {other}.", { model, other: server.model });
  find(".in-use").textContent = (result && offer) || before || server?.before ? said : "";
}

/** Tell those who hear the page that a run has ended, and how. */
function announce({ run, ended, ending, result }) {
  const now = `${ended.state} ${ended.name}`;
  const news = { idle: "", done: tr("The fine-tune is done. {summary}", { summary: told(result?.summary) }) };
  if (last !== undefined && now !== last) find("[role=status]").textContent = news[ended.state] ?? told(ending);
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
  start.textContent = running ? tr("Fine-tune again after this") : ended.is_stale ? tr("Start anew") : tr("Fine-tune");
  start.className = running || (value.result && value.offer && !value.in_use.mine) ? "plain" : "strong";
  show(stop, running);
  stop.disabled = stopping === name;
  stop.textContent = stopping === name ? tr("Cancelling…") : tr("Cancel");
  if (!running) stopping = "";
  show(resume, (ended.state === "interrupted" || ended.state === "failed") && !ended.is_stale && !ended.is_queued);
  resume.disabled = run.waiting >= value.limit;
  resume.textContent = running ? tr("Go on with the one before") : tr("Go on");
  show(queue, run.waiting);
  forget.disabled = false;
  queue.querySelector("span").textContent =
    run.waiting >= value.limit
      ? tr.many(run.waiting, "One more waits for its turn, and no more can.", "{count} more wait for their turn, and no more can.")
      : tr.many(run.waiting, "One more waits for its turn.", "{count} more wait for their turn.");
  if (value.error) problem.textContent = told(value.error); // it stays until a button is pressed
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
    if (button === stop) [stopping, button.textContent] = [name, tr("Cancelling…")];
    trigger(event, { name: button === stop ? name : props.value.ended.name }); // the run that the person saw
  });
}
