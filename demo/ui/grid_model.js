// What the grid knows: one label's photos by score, the line, decisions that are not saved yet, undo and redo. No DOM.

const [NONE, CONFIRMED, REJECTED, ABSENT] = [0, 1, 2, 3];
const OR_ABSENT = 4; // beside a mark: what is neither confirmed nor rejected is absent on this photo
const DIGEST_BYTES = 16;

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function base64(array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(text);
}

/** Decisions on one label of one album: by place what was decided and the bytes that were looked at. */
class Decided {
  constructor(album, label) {
    Object.assign(this, { album, label, slider: undefined, pending: new Map(), done: [], undone: [] });
  }

  set(place, mark, digest) {
    if (mark === undefined) this.pending.delete(place);
    else this.pending.set(place, { mark, digest });
  }

  /** What a save sends of it. */
  get part() {
    const entries = [...this.pending];
    const digests = new Uint8Array(entries.length * DIGEST_BYTES);
    entries.forEach(([, { digest }], i) => digests.set(digest, i * DIGEST_BYTES));
    return {
      album: this.album,
      label: this.label,
      slider: this.slider,
      places: base64(Int32Array.from(entries, ([place]) => place)),
      digests: base64(digests),
      marks: base64(Uint8Array.from(entries, ([, { mark }]) => (mark === ABSENT ? NONE : mark))),
    };
  }
}

/** All photos by their score for a label; `decided` is what of it is not saved. Photos are counted by index, from 0. */
class Column {
  constructor(value, decided) {
    this.label = value.label;
    this.isKnown = value.is_known;
    this.names = JSON.parse(value.photos);
    this.places = new Int32Array(bytesOf(value.places).buffer);
    this.scores = new Float32Array(bytesOf(value.scores).buffer);
    this.saved = bytesOf(value.marks);
    this.digests = bytesOf(value.digests);
    this.recommended = value.threshold;
    this.decided = decided;
    decided.slider ??= value.threshold;
    this.length = this.places.length;
    this.scored = this.isKnown ? this.scores.findIndex(Number.isNaN) : 0;
    if (this.scored === -1) this.scored = this.length;
    this.indexes = new Map(Array.from(this.places, (place, i) => [place, i]));
    this.marks = this.saved.map((mark) => mark & 3);
    this.forgetStale();
    this.cut(decided.slider);
  }

  /** Decisions that are saved by now, or were made on other bytes than those here, are no decisions any more. */
  forgetStale() {
    const { pending } = this.decided;
    this.stale = [];
    for (const [place, { mark, digest }] of pending) {
      const i = this.indexes.get(place);
      if (i === undefined) continue; // not shown under this label now: kept
      const same = digest.every((byte, k) => byte === this.digests[i * DIGEST_BYTES + k]);
      if (same && mark !== (this.saved[i] & 3)) this.marks[i] = mark;
      else pending.delete(place);
      if (!same) this.stale.push(this.names[i]);
    }
    if (this.stale.length) this.decided.done = this.decided.undone = [];
  }

  digest(i) {
    return this.digests.slice(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
  }

  /** Whether a photo can be decided on: it was read, and stands where its score puts it. */
  isOpen(i) {
    return i < this.scored || !this.isKnown;
  }

  /** Put the line where the threshold is. Compared in float32, as in Python. */
  cut(threshold) {
    this.threshold = this.decided.slider = threshold;
    const level = Math.fround(threshold);
    let [low, high] = [0, this.scored];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.scores[middle] >= level) low = middle + 1;
      else high = middle;
    }
    this.line = low;
  }

  isPending(i) {
    return this.decided.pending.has(this.places[i]);
  }

  /** Whether the tile says that the label is there. */
  isPresent(i) {
    return this.marks[i] === CONFIRMED || (this.marks[i] === NONE && i < this.line);
  }

  /** How many there are of each kind; `open` are undecided above the line. */
  get totals() {
    const all = { active: this.line, candidates: this.scored - this.line, untagged: this.length - this.scored };
    all.confirmed = all.rejected = all.open = 0;
    for (let i = 0; i < this.length; i++) {
      if (this.marks[i] === CONFIRMED) all.confirmed++;
      else if (this.marks[i] !== NONE) all.rejected++;
      else if (i < this.line) all.open++;
    }
    return all;
  }

  /** One step for undo: the photos at `indexes` get this mark; NONE is what a row says by not naming the label. */
  decide(indexes, mark) {
    const step = [];
    for (const i of indexes) {
      if (!this.isOpen(i)) continue;
      const saved = this.saved[i] & 3;
      const wanted = mark === NONE && this.saved[i] & OR_ABSENT ? ABSENT : mark;
      if (this.marks[i] === wanted) continue;
      step.push({ place: this.places[i], from: this.pendingMark(i), to: wanted === saved ? undefined : wanted, digest: this.digest(i) });
    }
    if (!step.length) return 0;
    this.decided.done.push(step);
    this.decided.undone = [];
    this.play(step, "to");
    return step.length;
  }

  /** The opposite of what the tile says; a second time takes that back. */
  flip(i) {
    if (this.isPending(i)) return this.decide([i], this.saved[i] & 3);
    return this.decide([i], this.isPresent(i) ? REJECTED : CONFIRMED);
  }

  /** Undecided photos above the line. */
  get open() {
    return Array.from({ length: this.line }, (_, i) => i).filter((i) => this.marks[i] === NONE);
  }

  pendingMark(i) {
    return this.decided.pending.get(this.places[i])?.mark;
  }

  play(step, which) {
    for (const { place, digest, ...marks } of step) {
      this.decided.set(place, marks[which], digest);
      const i = this.indexes.get(place);
      if (i !== undefined) this.marks[i] = marks[which] ?? this.saved[i] & 3;
    }
  }

  undo() {
    const step = this.decided.done.pop();
    this.decided.undone.push(step);
    this.play(step, "from");
    return step;
  }

  redo() {
    const step = this.decided.undone.pop();
    this.decided.done.push(step);
    this.play(step, "to");
    return step;
  }

  /** These decisions are saved as they were sent: place → mark. What was decided since stays. */
  settle(sent) {
    for (const [place, mark] of sent) {
      const i = this.indexes.get(place);
      if (i === undefined) continue;
      this.saved[i] = mark | (this.saved[i] & OR_ABSENT);
      this.marks[i] = this.pendingMark(i) ?? mark;
    }
  }
}
