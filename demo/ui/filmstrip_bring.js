// Bringing photos to the filmstrip: chosen or dropped, folders looked through, sent one by one.
// Uses `value`, `drawWork` and `tell` of filmstrip.js, which follows.

const NAMED = 3; // files that a message names; of the others it gives the number

let waiting = []; // files that wait for a place to go, then for their turn
let sending; // { total, done, left: [reasons], stop } while files travel
let leftOut = ""; // what of the last files was refused, and why

/** Photos from here on belong to the queue; the server is asked for a place for them first. nothing: what to say where none is one. */
function bring(files, nothing) {
  const seen = files.filter(({ name }) => !name.startsWith("."));
  const unread = seen.filter((file) => file.isUnread);
  const read = seen.filter((file) => !file.isUnread);
  const photos = read.filter(isPhoto);
  const rest = photos.length ? noPhotos(read.filter((file) => !isPhoto(file))) : nothing;
  tell((leftOut = [rest, notRead(unread)].filter(Boolean).join("\n")));
  if (!photos.length) return;
  waiting.push(...photos);
  if (sending) sending.total += photos.length;
  else if (value?.own) send();
  else trigger("bring");
}

async function send() {
  const mine = (sending = { total: waiting.length, done: 0, left: [], stop: new AbortController() });
  drawWork();
  let told = performance.now();
  const one = async (file) => {
    try {
      const answer = await fetch(`albums/${value.token}/photos`, {
        method: "POST",
        headers: { "x-name": encodeURIComponent(file.path ?? file.name), "content-type": "application/octet-stream" },
        body: file,
        signal: mine.stop.signal,
      });
      const { error } = await answer.json().catch(() => ({}));
      if (error || !answer.ok) mine.left.push(error ?? tr("{name} was refused.", file));
    } catch {
      if (!mine.stop.signal.aborted) mine.left.push(tr("{name} did not arrive: the server cannot be reached.", file));
    }
    mine.done++;
    drawWork();
    if (performance.now() - told > 1000) {
      told = performance.now();
      trigger("brought", { more: waiting.length > 0 });
    }
  };
  while (waiting.length && !mine.stop.signal.aborted) await one(waiting.shift()); // one by one: they arrive as given
  sending = undefined;
  waiting = [];
  if (mine.left.length) {
    const more = mine.left.length - NAMED;
    const rest = more > 0 && tr.many(more, "and {count} more file left out", "and {count} more files left out");
    tell((leftOut = [leftOut, ...mine.left.slice(0, NAMED), rest].filter(Boolean).join("\n")));
  }
  drawWork();
  trigger("brought", { more: false });
}

/** All files below what was dropped, folders looked through; hidden ones left out. What cannot be read is its name and isUnread. */
async function filesIn(entry, path = "") {
  if (entry.name.startsWith(".")) return [];
  const found = [];
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      file.path = path + file.name;
      return [file];
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) break;
      for (const inner of some) found.push(...(await filesIn(inner, `${path}${entry.name}/`)));
    }
  } catch {
    found.push({ name: entry.name, isUnread: true });
  }
  return found;
}

/** The names of the first few, and how many more there are. */
function namesOf(files) {
  const names = files.slice(0, NAMED).map(({ name }) => name).join(", ");
  const more = files.length - NAMED;
  return more > 0 ? tr("{some} and {count} more", { some: names, count: more }) : names;
}

const noPhotos = (files) => files.length && tr.many(files.length, "{count} file is no photo and was left out: {names}", "{count} files are no photos and were left out: {names}", { names: namesOf(files) });
const notRead = (files) => files.length && tr.many(files.length, "{count} file cannot be read and was left out: {names}", "{count} files cannot be read and were left out: {names}", { names: namesOf(files) });

const isPhoto = ({ name, type }) => type.startsWith("image/") || /\.(zip|hei[cf]|avif|tiff?|jfif)$/i.test(name);

function choose(folder) {
  const input = make("input", { type: "file", multiple: true });
  if (folder) input.webkitdirectory = true;
  else input.accept = "image/*,.heic,.heif,.zip,application/zip";
  input.addEventListener("change", () => {
    const files = Array.from(input.files);
    for (const file of files) file.path = file.webkitRelativePath || file.name;
    bring(files, folder ? tr("There are no photos in this folder.") : tr("What was chosen holds no photos."));
  });
  input.click();
}

async function dropped({ detail: entries }) {
  bring((await Promise.all(entries.map((entry) => filesIn(entry)))).flat(), tr("What was dropped holds no photos."));
}

named("add-photos").addEventListener("click", () => choose(false));
named("add-folder").addEventListener("click", () => choose(true));
const listening = new AbortController();
document.addEventListener("tagloop-files", (event) => (element.isConnected ? dropped(event) : listening.abort()), { signal: listening.signal });
