// What the slider's place is worth: figures and a plot from a curve, its best threshold; and MCut, a threshold of each
// image's own. Uses what tag_editor.js, which follows, declares.

const LINES = { precision: tr("precision"), recall: tr("recall"), f1: "F1" };

// What a person chose for this image and the next ones. A narrow screen has no room for a plot that nobody asked for.
let choices = { mcut: false, own: false, plot: !matchMedia("(max-width: 640px)").matches };

/** The curve's value at a threshold, linear between its points; null where it is not defined. */
function interpolate(curve, name, threshold) {
  const [at, values] = [curve.threshold, curve[name]];
  const right = at.findIndex((point) => point >= threshold);
  if (right === 0 || at.length === 0) return values[0] ?? null;
  if (right === -1) return values.at(-1);
  const share = (threshold - at[right - 1]) / (at[right] - at[right - 1]);
  if (values[right] === null || values[right - 1] === null) return null;
  return values[right - 1] + share * (values[right] - values[right - 1]);
}

/** Where F1 is best: its place in the curve; of equals the middle one of the first run, as in Python. */
function bestOf({ f1 }) {
  const first = f1.indexOf(Math.max(...f1));
  let last = first;
  while (f1[last + 1] === f1[first]) last++;
  return (first + last) >> 1;
}

/** The chosen curve, or the one there is. */
const curveInUse = () => (choices.own && value.own_curve) || value.curve || value.own_curve;

const twoDigits = (number) => (number === null ? "–" : number.toFixed(2));

/** A line through the points that are defined, in a box of 100 by 100. */
function line(curve, name) {
  const points = curve.threshold.map((at, i) => [100 * at, curve[name][i]]).filter(([, of]) => of !== null);
  return points.map(([x, of]) => `${x.toFixed(2)},${(100 - 100 * of).toFixed(2)}`).join(" ");
}

/** What changes with the image or the choice of a curve, but not with the slider. */
function drawCurve() {
  const curve = curveInUse();
  cutOut.ariaPressed = choices.mcut;
  plotSwitch.ariaExpanded = choices.plot;
  plotSwitch.hidden = take.hidden = figures.hidden = !curve;
  plot.hidden = !curve || !choices.plot;
  if (!curve) return;
  const isChoice = Boolean(value.curve && value.own_curve);
  const isOwn = curve === value.own_curve;
  const corrections = { count: value.own_images };
  const said = tr("{count} corrections made here", corrections);
  source.textContent = isChoice ? tr("on") : isOwn ? tr("on {count} corrections made here", corrections) : tr("on the checkpoint’s validation photos");
  sources.own.textContent = said;
  for (const [name, button] of Object.entries(sources)) {
    button.hidden = !isChoice;
    button.ariaPressed = (name === "own") === isOwn;
  }
  const best = bestOf(curve);
  const [at, f1] = [curve.threshold[best], curve.f1[best]];
  take.textContent = tr("Take {threshold}", { threshold: at.toFixed(3).replace(/0$/, "") });
  take.title = tr("The threshold of the best F1, {f1}", { f1: twoDigits(f1) });
  take.value = at;
  plot.ariaLabel = tr("Precision, recall and F1 over the threshold: F1 is best at {threshold}, {f1}", { threshold: at, f1: twoDigits(f1) });
  for (const name of Object.keys(LINES)) plot.querySelector(`.${name}`).setAttribute("points", line(curve, name));
  Object.assign(plot.querySelector(".best").style, { left: `${100 * at}%`, top: `${100 - 100 * f1}%` });
}

/** What changes with the slider. The curve holds for one threshold; where there are more its room stays, empty. */
function drawFigures() {
  const curve = curveInUse();
  if (!curve) return;
  const holds = tags.tuned || tags.isSplit ? "hidden" : "";
  for (const node of [figures, take, plot, plotSwitch]) node.style.visibility = holds;
  take.disabled = tags.threshold === Number(take.value);
  for (const [name, title] of Object.entries(LINES)) {
    figures.querySelector(`.${name}`).textContent = `${title} ${twoDigits(interpolate(curve, name, tags.threshold))}`;
  }
}

/** Put the slider into the widest gap of this image's scores; the tuned thresholds have no such gap. */
function cutAtWidestGap() {
  if (tags.tuned) tags.sort(false);
  tunedSwitch.checked = false;
  tags.cut(mcut(tags.scores));
  slider.value = tags.threshold;
}

/** Take up a choice for this image. */
function choose(choice) {
  choices = { ...choices, ...choice };
  drawCurve();
  draw();
  keep();
}

function toggleCut() {
  if (choices.mcut) return resetAll();
  cutAtWidestGap();
  choose({ mcut: true });
  say({ state: "", text: "" });
}

function takeBest() {
  slider.value = take.value;
  slide(slider);
  changed();
}
