// What the tag editor knows: scores sorted once, the person's decisions, undo and redo. No DOM in here.

const CHIP_LIMIT = 300;
const CANDIDATES = 24;
const HITS = 12;
const OPPOSITE = { active: "rejected", candidate: "confirmed" };

/** Little-endian float32 values from base64. */
function decodeFloats(text) {
  return new Float32Array(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
}

/** Lower case, with underscores read as spaces: how labels are compared with what is typed. */
function plain(text) {
  return text.toLowerCase().replaceAll("_", " ");
}

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

class Tags {
  constructor({ names, scores, threshold, thresholds, confirmed, rejected, tuned }) {
    this.scores = decodeFloats(scores);
    this.names = this.scores.length ? names.split("\n") : [];
    this.positions = new Map(this.names.map((name, position) => [name, position]));
    this.recommended = threshold;
    this.thresholds = thresholds && decodeFloats(thresholds);
    this.decisions = new Map([
      ...confirmed.map((name) => [name, "confirmed"]),
      ...rejected.map((name) => [name, "rejected"]),
    ]);
    this.done = [];
    this.undone = [];
    this.sort(tuned);
  }

  /** Sort by score, or by distance from each label's tuned threshold, so that the active labels are a prefix. */
  sort(tuned) {
    const { scores, thresholds } = this;
    const heights = tuned ? Float64Array.from(scores, (score, i) => score - thresholds[i]) : Float64Array.from(scores);
    this.tuned = tuned;
    this.order = Array.from(heights.keys()).sort((a, b) => heights[b] - heights[a]);
    this.heights = this.order.map((position) => heights[position]);
    this.ranks = new Int32Array(heights.length);
    this.order.forEach((position, rank) => (this.ranks[position] = rank));
  }

  nameAt(rank) {
    return this.names[this.order[rank]];
  }

  /** Place in the sorted order; Infinity for a label that the model lacks. */
  rankOf(name) {
    return this.has(name) ? this.ranks[this.positions.get(name)] : Infinity;
  }

  has(name) {
    return this.positions.has(name);
  }

  scoreOf(name) {
    return this.scores[this.positions.get(name)];
  }

  /** How many labels the model has active. The threshold is compared in float32, as Python compares it. */
  boundary(threshold) {
    const cut = this.tuned ? threshold - this.recommended : Math.fround(threshold);
    let [low, high] = [0, this.heights.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.heights[middle] >= cut) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * What to show: the labels of rank < end, then `kept`, the decided ones of a higher rank; CHIP_LIMIT in all.
   * `count` is the number of active labels, decisions included.
   */
  view(threshold) {
    const boundary = this.boundary(threshold);
    const decided = [...this.decisions.keys()].sort((a, b) => this.rankOf(a) - this.rankOf(b) || 0);
    let end = Math.min(boundary + CANDIDATES, this.names.length, CHIP_LIMIT);
    let inside = decided.findLastIndex((name) => this.rankOf(name) < end) + 1;
    for (; end > 0 && end + decided.length - inside > CHIP_LIMIT; end--) {
      if (inside > 0 && this.rankOf(decided[inside - 1]) === end - 1) inside--;
    }
    let count = boundary;
    for (const [name, decision] of this.decisions) {
      const active = this.rankOf(name) < boundary;
      if (active && decision === "rejected") count--;
      if (!active && decision === "confirmed") count++;
    }
    return { boundary, end, kept: decided.slice(inside).slice(0, CHIP_LIMIT - end), count };
  }

  state(name, boundary) {
    return this.decisions.get(name) ?? (this.rankOf(name) < boundary ? "active" : "candidate");
  }

  /** Decide against what the chip says now, or take the decision back. */
  toggle(name, boundary) {
    this.decide(name, OPPOSITE[this.state(name, boundary)]);
  }

  decide(name, decision) {
    const before = this.decisions.get(name);
    if (before === decision) return;
    this.done.push({ name, before, after: decision });
    this.undone = [];
    this.set(name, decision);
  }

  set(name, decision) {
    if (decision) this.decisions.set(name, decision);
    else this.decisions.delete(name);
  }

  undo() {
    const step = this.done.pop();
    this.undone.push(step);
    this.set(step.name, step.before);
  }

  redo() {
    const step = this.undone.pop();
    this.done.push(step);
    this.set(step.name, step.after);
  }

  decided(decision) {
    return [...this.decisions].filter(([, value]) => value === decision).map(([name]) => name);
  }

  /** Labels that hold the typed text: the exact one first, then those that start with it, each by falling score. */
  search(typed) {
    this.plainNames ??= this.names.map(plain);
    const wanted = plain(typed);
    const tiers = [[], [], [], []];
    if (this.has(typed)) tiers[0].push(typed);
    for (const position of this.order) {
      const found = this.plainNames[position].indexOf(wanted);
      if (found === -1 || this.names[position] === typed) continue;
      tiers[found > 0 ? 3 : this.plainNames[position].length > wanted.length ? 2 : 1].push(this.names[position]);
    }
    return tiers.flat().slice(0, HITS);
  }
}
