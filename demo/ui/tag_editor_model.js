// What the tag editor knows: scores sorted once, thresholds, the person's decisions, undo and redo. No DOM in here.

const CANDIDATES = 24;
const NEAR = 0.05; // a candidate's score is at least this share of its threshold: a label at 0.00 is not just below 0.35
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

/** Maximum-cut threshold: the middle of the widest gap between neighbours, bit for bit as demo.thresholds.mcut has it. */
function mcut(scores) {
  const rising = Float64Array.from(scores).sort();
  if (rising.length < 2) return 0.5;
  let widest = rising.length - 1; // of equal gaps the highest
  for (let i = widest; i > 0; i--) if (rising[i] - rising[i - 1] > rising[widest] - rising[widest - 1]) widest = i;
  return (rising[widest] + rising[widest - 1]) / 2;
}

/** A budget shared out: small wants are met, large ones get equal shares of what is left. */
function share(wants, budget) {
  const shares = [...wants];
  const rising = [...wants.keys()].sort((a, b) => wants[a] - wants[b]);
  rising.forEach((place, done) => {
    shares[place] = Math.min(wants[place], Math.floor(budget / (rising.length - done)));
    budget -= shares[place];
  });
  return shares;
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/**
 * Labels are in `groups`, one a category and a last one for labels that the model lacks; without categories that one
 * has them all. A group's `level` is its own threshold, null while it follows the main one. In an exclusive group the
 * best label is active, or what a person chose instead.
 */
class Tags {
  constructor({ names, scores, categories, membership, exclusive, threshold, thresholds, ...rest }) {
    this.scores = decodeFloats(scores);
    this.names = JSON.parse(names);
    this.positions = new Map(this.names.map((name, position) => [name, position]));
    this.membership = membership ? decodeFloats(membership) : new Float32Array(this.scores.length);
    this.groups = [...categories, undefined].map((category, i) => ({
      category,
      exclusive: exclusive[i] ?? false,
      level: rest.levels[i] ?? null,
    }));
    this.sliders = this.groups.filter((group) => this.hasSlider(group));
    this.recommended = threshold;
    this.threshold = rest.slider;
    this.thresholds = thresholds && decodeFloats(thresholds);
    this.decisions = new Map([
      ...rest.confirmed.map((name) => [name, "confirmed"]),
      ...rest.rejected.map((name) => [name, "rejected"]),
    ]);
    this.done = [];
    this.undone = [];
    this.sort(rest.tuned);
  }

  /** Sort by score, or by distance from each label's tuned threshold, so that a group's active labels are a prefix. */
  sort(tuned) {
    const { scores, thresholds, groups, membership } = this;
    const height = (score, i) => (tuned && !groups[membership[i]].exclusive ? score - thresholds[i] : score);
    const heights = Float64Array.from(scores, height);
    this.tuned = tuned;
    this.heights = heights;
    this.order = Array.from(heights.keys()).sort((a, b) => heights[b] - heights[a]);
    this.ranks = new Int32Array(heights.length);
    for (const group of groups) group.order = [];
    for (const position of this.order) this.ranks[position] = groups[membership[position]].order.push(position) - 1;
  }

  has(name) {
    return this.positions.has(name);
  }

  scoreOf(name) {
    return this.scores[this.positions.get(name)];
  }

  groupOf(name) {
    return this.has(name) ? this.groups[this.membership[this.positions.get(name)]] : this.groups.at(-1);
  }

  /** Place in the sorted order of its group; Infinity for a label that the model lacks. */
  rankOf(name) {
    return this.has(name) ? this.ranks[this.positions.get(name)] : Infinity;
  }

  hasSlider(group) {
    return group.category !== undefined && !group.exclusive;
  }

  levelOf(group) {
    return group.level ?? this.threshold;
  }

  /** Whether the main threshold is not all there is to say: a group has its own. */
  get isSplit() {
    return this.groups.some((group) => group.level !== null);
  }

  /** Move every group. */
  cut(threshold) {
    this.threshold = threshold;
    for (const group of this.groups) group.level = null;
  }

  /** How many labels of a group are active by the model, or 0 once a person chose. Compared in float32, as in Python. */
  boundaryOf(group) {
    if (group.exclusive) return this.decided("confirmed").some((name) => this.groupOf(name) === group) ? 0 : 1;
    const level = this.levelOf(group);
    const cut = this.tuned ? level - this.recommended : Math.fround(level);
    let [low, high] = [0, group.order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.heights[group.order[middle]] >= cut) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The labels of a group that come just below its active ones. */
  candidatesOf(group) {
    const limit = Math.ceil(CANDIDATES / (group.exclusive ? 1 : this.sliders.length || 1));
    const shift = this.levelOf(group) - this.recommended;
    const found = [];
    for (let rank = group.boundary; rank < group.order.length && found.length < limit; rank++) {
      const position = group.order[rank];
      const cut = this.tuned ? this.thresholds[position] + shift : this.levelOf(group);
      if (group.exclusive || this.scores[position] >= NEAR * cut) found.push(this.names[position]);
    }
    return found;
  }

  /**
   * Give each group what to show of it: `active`, `candidates`, then `kept`, its other decided labels; MAX_CHIPS in
   * all. `count` is how many of it are active, decisions included. While one group's slider is `moving`, the others stay
   * as they are, so that nothing but this group changes under the pointer.
   */
  view(moving) {
    const groups = moving ? [moving] : this.groups;
    const room = MAX_CHIPS - sum(this.groups.map((group) => (groups.includes(group) ? 0 : group.chips)));
    for (const group of groups) {
      Object.assign(group, { boundary: this.boundaryOf(group), decided: [] });
      group.near = this.candidatesOf(group);
      group.count = group.boundary;
    }
    for (const [name, decision] of this.decisions) {
      const group = this.groupOf(name);
      if (!groups.includes(group)) continue;
      const active = this.rankOf(name) < group.boundary;
      group.decided.push(name);
      if (active && decision === "rejected") group.count--;
      if (!active && decision === "confirmed") group.count++;
    }
    for (const { decided } of groups) decided.sort((a, b) => this.rankOf(a) - this.rankOf(b) || 0);
    let over = 0;
    for (let budget = room; budget >= 0; budget -= over) {
      this.fill(groups, budget);
      over = sum(groups.map(({ chips }) => chips)) - room;
      if (over <= 0) return;
    }
    this.fill(groups, 0, room);
  }

  /** Share a budget of chips among groups: active labels and all that exclude them, then candidates, then the decided. */
  fill(groups, budget, most = Infinity) {
    const first = share(groups.map(({ boundary, near, exclusive }) => boundary + (exclusive ? near.length : 0)), budget);
    const then = share(groups.map(({ near, exclusive }) => (exclusive ? 0 : near.length)), budget - sum(first));
    groups.forEach((group, i) => {
      group.active = group.order.slice(0, Math.min(group.boundary, first[i])).map((position) => this.names[position]);
      group.candidates = group.near.slice(0, first[i] + then[i] - group.active.length);
      const shown = new Set([...group.active, ...group.candidates]);
      group.kept = group.decided.filter((name) => !shown.has(name)).slice(0, most);
      most -= group.kept.length;
      group.chips = shown.size + group.kept.length;
    });
  }

  /** Over all groups: how many labels are active, how many of these are not shown, how many other ones are not. */
  get totals() {
    const all = (number) => sum(this.groups.map(number));
    const unseen = all((group) => group.boundary - group.active.length);
    const known = all((group) => group.chips) - this.groups.at(-1).kept.filter((name) => !this.has(name)).length;
    return { count: all((group) => group.count), unseen, lower: this.names.length - known - unseen };
  }

  state(name) {
    return this.decisions.get(name) ?? (this.rankOf(name) < this.groupOf(name).boundary ? "active" : "candidate");
  }

  /** Decide against what the chip says now, or take the decision back. */
  toggle(name) {
    this.decide(name, OPPOSITE[this.state(name)]);
  }

  /** One step for undo. To choose in an exclusive group turns off what was on; to take the choice back frees the group. */
  decide(name, decision) {
    const before = this.decisions.get(name);
    if (before === decision) return;
    const after = new Map([[name, decision]]);
    const group = this.groupOf(name);
    if (group.exclusive) {
      for (const rival of group.order.map((position) => this.names[position])) {
        if (rival === name) continue;
        if (decision === "confirmed" && ["active", "confirmed"].includes(this.state(rival))) after.set(rival, "rejected");
        if (before === "confirmed" && !decision) after.set(rival, undefined);
      }
    }
    this.done.push(Array.from(after, ([label, to]) => ({ label, from: this.decisions.get(label), to })));
    this.undone = [];
    for (const { label, to } of this.done.at(-1)) this.set(label, to);
  }

  set(name, decision) {
    if (decision) this.decisions.set(name, decision);
    else this.decisions.delete(name);
  }

  undo() {
    const step = this.done.pop();
    this.undone.push(step);
    for (const { label, from } of step) this.set(label, from);
  }

  redo() {
    const step = this.undone.pop();
    this.done.push(step);
    for (const { label, to } of step) this.set(label, to);
  }

  decided(decision) {
    return [...this.decisions].filter(([, value]) => value === decision).map(([name]) => name);
  }

  /**
   * Labels that hold the typed text: the exact one first, then those that start with it; each time `others`, which the
   * model may lack, and its own by falling score.
   */
  search(typed, others) {
    this.plainNames ??= this.names.map(plain);
    const wanted = plain(typed);
    const tiers = [[], [], [], []];
    const take = (name, plainName) => {
      const found = plainName.indexOf(wanted);
      if (found === -1) return;
      tiers[name === typed ? 0 : found > 0 ? 3 : plainName.length > wanted.length ? 2 : 1].push(name);
    };
    for (const name of others) if (!this.has(name)) take(name, plain(name));
    for (const position of this.order) take(this.names[position], this.plainNames[position]);
    return tiers.flat().slice(0, HITS);
  }
}
