// A fine-tune from start to swap, drawn from what the server says of it.
const [start, use, back] = ["retrain", "use-model", "previous-model"].map(named);
const [stop, problem, progress, report] = [".stop", ".problem", ".progress", ".report"].map(find);
const PHASES = { starting: "Starting", reading: "Reading", features: "Looking at the images", head: "Training the head", backbone: "Training the backbone" };
const FIGURES = [
  ["map", "mAP", "up"],
  ["micro_f1", "Micro F1", "up"],
  ["macro_f1", "Macro F1", "up"],
  ["micro_precision", "Precision", "up"],
  ["micro_recall", "Recall", "up"],
  ["hamming_loss", "Hamming loss", "down"],
];
const images = (count) => `${count.toLocaleString("en")} ${count === 1 ? "image" : "images"}`;
const figure = (number) => (typeof number === "number" ? number.toFixed(3) : "–");

function ago(seconds) {
  if (typeof seconds !== "number") return "";
  return seconds < 90 ? `about ${Math.max(1, Math.round(seconds))} s left` : `about ${Math.round(seconds / 60)} min left`;
}

function drawProgress({ state, phase, step, steps, loss, eta_seconds, history }, ending) {
  progress.hidden = state === "idle";
  progress.dataset.state = state;
  const running = state === "running";
  const share = steps ? `${step.toLocaleString("en")} of ${steps.toLocaleString("en")}` : "";
  const parts = [share, typeof loss === "number" && `loss ${loss.toFixed(4)}`, running && ago(eta_seconds)];
  find(".line b").textContent = running ? (PHASES[phase] ?? phase) : state === "done" ? "Done" : ending;
  find(".line span").textContent = running ? parts.filter(Boolean).join(" · ") : "";
  const bar = find("progress");
  bar.hidden = !running;
  if (steps) bar.value = step / steps;
  else bar.removeAttribute("value");
  const losses = history.map((entry) => entry.loss).filter((value) => typeof value === "number");
  const chart = find("figure");
  chart.hidden = losses.length < 2;
  if (chart.hidden) return;
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const place = (value, i) => `${(i / (losses.length - 1)) * 300},${60 - ((value - low) / (high - low || 1)) * 56}`;
  find("polyline").setAttribute("points", losses.map(place).join(" "));
  find("figcaption").textContent = `Training loss, ${losses[0].toFixed(4)} at first, ${losses.at(-1).toFixed(4)} now`;
}

function drawReport(value) {
  report.hidden = !value;
  if (!value) return;
  find(".verdict").textContent = value.words;
  find(".verdict").dataset.verdict = value.verdict;
  const head = [make("th", { scope: "col" }, make("span", { className: "unseen", textContent: "Model" }))];
  for (const [, name, better] of FIGURES) head.push(make("th", { scope: "col", textContent: name, title: better === "up" ? "higher is better" : "lower is better" }));
  report.querySelector("thead tr").replaceChildren(...head);
  const lines = value.rows.map(({ name, figures }) =>
    make("tr", {}, make("th", { scope: "row", textContent: name }), ...FIGURES.map(([key]) => make("td", { textContent: figure(figures[key]) }))),
  );
  report.querySelector("tbody").replaceChildren(...lines);
  const measured = value.split === "valid" ? `Measured on ${images(value.images)} that were held out.` : `No image was held out; the figures of the new model are on ${images(value.images)} that it was trained on.`;
  report.querySelector(".quiet").textContent = `${measured} The new model is in ${value.folder}.`;
}

drawing((value) => {
  const running = value.run.state === "running";
  find(".plan p").textContent = value.images
    ? `${images(value.images)} corrected so far, starting from ${value.model}. About one in five is held out to compare the models.`
    : "Save at least one correction first.";
  start.disabled = running || !value.images;
  start.textContent = running ? "Fine-tuning…" : "Fine-tune";
  stop.hidden = !running;
  stop.disabled = false;
  problem.textContent = value.error;
  problem.hidden = !value.error;
  drawProgress(value.run, value.ending);
  drawReport(value.report);
  use.hidden = !value.report;
  use.disabled = !value.offer;
  back.hidden = !value.before;
  back.disabled = false;
  back.textContent = value.before ? `Go back to ${value.before}` : "Go back";
  find(".in-use").textContent = value.report || value.before ? `In use: ${value.model}` : "";
});
start.addEventListener("click", () => {
  start.disabled = true;
  trigger("start");
});
stop.addEventListener("click", () => {
  stop.disabled = true;
  trigger("cancel");
});
use.addEventListener("click", () => {
  use.disabled = true;
  trigger("use_model");
});
back.addEventListener("click", () => {
  back.disabled = true;
  trigger("go_back");
});
