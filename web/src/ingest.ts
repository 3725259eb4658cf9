import { computed, signal } from "@preact/signals";
import { ApiError, explained, lines, send, withParams } from "./api";
import { comebacks, trouble } from "./connection";

/** Files on their way into a collection: sent in batches, each known as soon as the mesh keeps it. */

const BATCH_FILES = 16;
const BATCH_BYTES = 8 * 1024 * 1024;
const AT_ONCE = 2;
const MOST_TRIES = 6;
const IMAGE_NAME = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic)$/i;

export type ItemState = "waiting" | "sending" | "created" | "updated" | "unchanged" | "skipped" | "failed";

export interface IngestItem {
  key: number;
  file: File;
  name: string;
  collection: string;
  captions: boolean;
  state: ItemState;
  error: string;
  id: string;
  tries: number;
}

export const items = signal<IngestItem[]>([]);
export const startedAt = signal(0);
export const waitingForMesh = signal(false);

export const counts = computed(() => {
  const found = { waiting: 0, sending: 0, created: 0, updated: 0, unchanged: 0, skipped: 0, failed: 0 };
  for (const item of items.value) found[item.state] += 1;
  return found;
});
export const finished = computed(() => items.value.length - counts.value.waiting - counts.value.sending);
/** How many files were stored since the page was loaded: what was listed before is out of date. */
export const everStored = signal(0);
export const busy = computed(() => counts.value.waiting + counts.value.sending > 0);

let nextKey = 1;
let active = 0;
let stop = new AbortController();

/** Return whether a file may be an image: by what the system says, else by its name. */
export const looksLikeImage = (file: File): boolean => file.type.startsWith("image/") || (!file.type && IMAGE_NAME.test(file.name));

/** Put files into the queue and begin. */
export function add(files: readonly File[], collection: string, captions: boolean): void {
  if (!busy.value) startedAt.value = Date.now();
  const fresh = files.map((file): IngestItem => ({
    key: nextKey++, file, name: file.webkitRelativePath || file.name, collection, captions, state: "waiting", error: "", id: "", tries: 0,
  }));
  items.value = [...items.value, ...fresh];
  pump();
}

/** Send again what failed: one item, or all. */
export function retry(key?: number): void {
  if (!busy.value) startedAt.value = Date.now();
  change((item) => (item.state === "failed" && (key === undefined || item.key === key) ? { ...item, state: "waiting", error: "", tries: 0 } : item));
  waitingForMesh.value = false;
  pump();
}

/** Send nothing more. What the mesh has taken already stays. */
export function cancel(): void {
  stop.abort();
  stop = new AbortController();
  change((item) => (item.state === "waiting" || item.state === "sending" ? { ...item, state: "failed", error: "Stopped before it was stored." } : item));
}

/** Forget what has ended. */
export function clear(): void {
  items.value = items.value.filter((item) => item.state === "waiting" || item.state === "sending");
}

function change(how: (item: IngestItem) => IngestItem): void {
  items.value = items.value.map(how);
}

function set(changes: Map<number, Partial<IngestItem>>): void {
  for (const { state } of changes.values()) if (state === "created" || state === "updated") everStored.value += 1;
  change((item) => {
    const found = changes.get(item.key);
    return found ? { ...item, ...found } : item;
  });
}

function pump(): void {
  while (active < AT_ONCE && !waitingForMesh.value) {
    const batch = nextBatch();
    if (!batch.length) return;
    active += 1;
    set(new Map(batch.map((item) => [item.key, { state: "sending" as const }])));
    void sendBatch(batch, stop.signal).finally(() => {
      active -= 1;
      pump();
    });
  }
}

function nextBatch(): IngestItem[] {
  const batch: IngestItem[] = [];
  let bytes = 0;
  for (const item of items.value) {
    if (item.state !== "waiting") continue;
    const [first] = batch;
    if (first && (first.collection !== item.collection || first.captions !== item.captions)) break;
    if (batch.length && (batch.length >= BATCH_FILES || bytes + item.file.size > BATCH_BYTES)) break;
    batch.push(item);
    bytes += item.file.size;
  }
  return batch;
}

async function sendBatch(batch: IngestItem[], signal: AbortSignal): Promise<void> {
  const [first] = batch;
  if (!first) return;
  const left = new Map(batch.map((item) => [item.key, item]));
  const form = new FormData();
  for (const item of batch) form.append("file", item.file, item.file.name);
  const path = withParams("/v1/ingest", { collection: first.collection, captions: first.captions ? "" : "none" });
  try {
    const response = await send(path, { method: "POST", body: form, signal, headers: { accept: "application/x-ndjson" } }, false);
    // What comes together is shown together: a change for each item would draw the list anew each time.
    let changes = new Map<number, Partial<IngestItem>>();
    let shownAt = performance.now();
    let broken = "The answer ended before this file's line.";
    for await (const line of lines(response)) {
      if (signal.aborted) return;
      if (line.error && line.index === undefined) broken = explained(line.error, 0).message;
      const item = line.index === undefined ? undefined : batch[line.index];
      if (!item || !left.delete(item.key)) continue;
      changes.set(item.key, line.error ? { state: "failed", error: explained(line.error, 0).message } : { state: outcome(line.outcome), id: line.image?.id ?? "" });
      if (performance.now() - shownAt > 100) {
        set(changes);
        changes = new Map();
        shownAt = performance.now();
      }
    }
    for (const item of left.values()) changes.set(item.key, { state: "failed", error: broken });
    set(changes);
  } catch (error) {
    if (signal.aborted) return;
    // Sending twice changes nothing: ids come of the content. So what may have been stored is sent again as well.
    if (error instanceof ApiError && error.isTemporary) {
      waitingForMesh.value = true;
      const again = (item: IngestItem): Partial<IngestItem> =>
        item.tries + 1 < MOST_TRIES ? { state: "waiting", tries: item.tries + 1 } : { state: "failed", error: error.message };
      set(new Map([...left.values()].map((item) => [item.key, again(item)])));
      // A mesh that is away is asked for in connection.ts, which tells when it is back.
      if (trouble.peek() === null) window.setTimeout(resume, (error.retryAfterSeconds ?? 2) * 1000);
    } else {
      const message = error instanceof ApiError ? error.message : "The connection broke off.";
      set(new Map([...left.keys()].map((key) => [key, { state: "failed" as const, error: message }])));
    }
  }
}

function outcome(text = ""): ItemState {
  return text === "updated" || text === "unchanged" || text === "skipped" ? text : "created";
}

function resume(): void {
  waitingForMesh.value = false;
  pump();
}

comebacks.subscribe((count) => {
  if (count) resume();
});

window.addEventListener("beforeunload", (event) => {
  if (busy.peek()) event.preventDefault();
});
