/** Any number of items: one stream or request at a time, another where it breaks, each item answered exactly once. */
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { LensmeshError } from "../errors.js";
import type { Limits } from "../gen/lensmesh/common/v1/common_pb.js";
import { IngestItemSchema } from "../gen/lensmesh/router/v1/router_pb.js";
import { imageBytes, imageMessage } from "../images.js";
import { Queue, sleep } from "../waiting.js";
import { Loss, mayBeAnItems, ofAMessage, resumable, strikes } from "./loss.js";
import type { IngestItem, IngestManyOptions, IngestProgress, IngestResult } from "./types.js";
import { type Entry, Window } from "./window.js";

const WINDOW_ITEMS = 256;
const WINDOW_BYTES = 64 * 1024 * 1024;
const PATIENCE_MS = 60_000;
const ATTEMPTS = 5;
// Of an item without its image and its texts.
const ITEM_BYTES = 64;

/** What one stream or request is given. */
export interface Attempt {
  readonly window: Window;
  readonly limits: Limits;
  /** Aborted where the ingest ends, or patience does. */
  readonly signal: AbortSignal;
  /** Tells the answer to the item of a `ref`: a result, or why there is none. */
  readonly answer: (ref: string, result: Omit<IngestResult, "index" | "ref"> | LensmeshError) => void;
}

/** Sends what the window has ready. Returns at its end; throws where it broke. */
export type Send = (attempt: Attempt) => Promise<void>;

export interface Way {
  readonly send: Send;
  readonly limits: (refresh: boolean) => Promise<Limits>;
}

/** Send items along a way, and yield their results. */
export async function* ingestAlong(
  way: Way,
  items: AsyncIterable<IngestItem> | Iterable<IngestItem>,
  options: IngestManyOptions,
): AsyncGenerator<IngestResult> {
  const bulk = new Bulk(way, options);
  yield* bulk.run(items);
}

class Bulk {
  private readonly window: Window;
  private readonly settled = new Queue<[Entry, IngestResult]>();
  private readonly ended = new AbortController();
  private readonly counts = { created: 0, updated: 0, unchanged: 0, skipped: 0, failed: 0 };
  private read = 0;
  private done = 0;
  private endPatience: () => void = () => undefined;

  constructor(
    private readonly way: Way,
    private readonly options: IngestManyOptions,
  ) {
    this.window = new Window(options.windowItems ?? WINDOW_ITEMS, options.windowBytes ?? WINDOW_BYTES);
  }

  async *run(items: AsyncIterable<IngestItem> | Iterable<IngestItem>): AsyncGenerator<IngestResult> {
    const { signal } = this.options;
    const stop = () => this.ended.abort(signal?.reason);
    if (signal?.aborted) {
      stop();
    }
    signal?.addEventListener("abort", stop, { once: true });
    const source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
    let failure: unknown;
    const feeding = this.feed(source).catch((thrown: unknown) => {
      failure ??= thrown;
    });
    const pumping = this.pump().catch((thrown: unknown) => {
      failure = LensmeshError.from(thrown);
    });
    // The input has ended before the pump does, unless it fails: nothing comes after this.
    void pumping.then(() => this.settled.close());
    try {
      for (let next = await this.settled.take(); next !== undefined; next = await this.settled.take()) {
        const [entry, result] = next;
        this.window.release(entry);
        this.done += 1;
        this.counts[result.outcome] += 1;
        this.options.onProgress?.(this.progress());
        yield result;
      }
      if (failure === undefined) {
        await feeding;
      }
      if (failure !== undefined) {
        throw failure;
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.ended.abort();
      this.window.close();
      await pumping;
      // Whoever waits for the input's next item is not waited for.
      void Promise.resolve(source.return?.()).catch(() => undefined);
    }
  }

  private progress(): IngestProgress {
    return { read: this.read, done: this.done, ...this.counts };
  }

  /** Admit the items of the input, each with its image's bytes. One whose image cannot be had fails alone. */
  private async feed(source: AsyncIterator<IngestItem> | Iterator<IngestItem>): Promise<void> {
    try {
      const limits = await this.way.limits(false).catch(() => undefined);
      for (let next = await source.next(); !next.done && !this.ended.signal.aborted; next = await source.next()) {
        const item = next.value;
        const index = this.read++;
        const [entry, error] = await readEntry(index, item, limits);
        await this.window.admit(entry, error === undefined);
        if (error !== undefined) {
          this.settle(entry, error);
        }
      }
    } finally {
      this.window.end();
    }
  }

  private settle(entry: Entry, result: Omit<IngestResult, "index" | "ref"> | LensmeshError): void {
    const { index, ref } = entry;
    const told = result instanceof LensmeshError ? { id: "", outcome: "failed" as const, error: result } : result;
    this.settled.put([entry, { index, ref, ...told }]);
  }

  private async pump(): Promise<void> {
    const stopped = new Promise<never>((_, reject) => {
      const told = () => reject(new LensmeshError("the ingest was cancelled", { code: Code.Canceled }));
      this.ended.signal.addEventListener("abort", told, { once: true });
      if (this.ended.signal.aborted) {
        told();
      }
    });
    stopped.catch(() => undefined);
    const { window } = this;
    let loss: Loss | undefined;
    for (let streams = 0; await Promise.race([window.somethingToDo(), stopped]); streams++) {
      const answers = window.answers;
      let error = await this.attempt(loss, streams > 0);
      const since = window.waitingSince ?? Date.now();
      const out = window.out;
      const gaveUp = error !== undefined && this.accuse(error);
      const again = window.unsend();
      if (window.answers > answers || gaveUp) {
        loss = undefined;
      }
      if (gaveUp || (error === undefined && again === 0 && window.answers > answers)) {
        continue;
      }
      error ??= new LensmeshError("the server ended before it had answered all", { code: Code.Unavailable });
      if (this.ended.signal.aborted || !(resumable(error) || (out > 0 && ofAMessage(error)))) {
        throw error;
      }
      loss = new Loss(error, since + (this.options.patienceMs ?? PATIENCE_MS), loss);
      if (Date.now() >= loss.giveUpAt) {
        throw error;
      }
      this.options.onResume?.(error, again);
      if (!ofAMessage(error)) {
        await Promise.race([sleep(loss.delayMs, this.ended.signal), stopped]);
      }
    }
  }

  /** Run one stream or request to its end. Return why it broke. */
  private async attempt(loss: Loss | undefined, refresh: boolean): Promise<LensmeshError | undefined> {
    const controller = new AbortController();
    const stop = () => controller.abort(this.ended.signal.reason);
    this.ended.signal.addEventListener("abort", stop, { once: true });
    // Until the first answer, which shows that the way is open again.
    const patience = loss && setTimeout(() => controller.abort(loss.error), loss.lastTryMs);
    this.endPatience = () => clearTimeout(patience);
    try {
      const limits = await this.way.limits(refresh);
      await this.way.send({
        window: this.window,
        limits,
        signal: controller.signal,
        answer: (ref, result) => this.answer(ref, result),
      });
      return undefined;
    } catch (thrown) {
      return LensmeshError.from(controller.signal.aborted && loss ? loss.error : thrown);
    } finally {
      this.endPatience();
      this.ended.signal.removeEventListener("abort", stop);
      controller.abort();
      this.window.wake();
    }
  }

  private answer(ref: string, result: Omit<IngestResult, "index" | "ref"> | LensmeshError): void {
    const entry = this.window.answered(ref);
    if (entry === undefined) {
      return;
    }
    this.endPatience();
    const again = result instanceof LensmeshError ? result.retryDelayMs : undefined;
    if (again !== undefined && entry.attempts < (this.options.attempts ?? ATTEMPTS)) {
      this.window.sendAgain(entry, again);
    } else {
      this.settle(entry, result);
    }
  }

  /** Tell whether an item is given up because of this end of a stream. */
  private accuse(error: LensmeshError): boolean {
    if (!mayBeAnItems(error)) {
      return false;
    }
    const entry = this.window.narrow();
    if (entry === undefined || ++entry.strikes < strikes(error)) {
      return false;
    }
    this.window.giveUp(entry);
    const why = `the item is given up, it was alone on ${entry.strikes} streams that ended: ${error.message}`;
    this.settle(entry, new LensmeshError(why, { ...error, cause: error }));
    return true;
  }
}

async function readEntry(
  index: number,
  item: IngestItem,
  limits: Limits | undefined,
): Promise<[Entry, LensmeshError | undefined]> {
  const { ref = "", id = "", caption = "", imageUri = "", metadata } = item;
  const message = create(IngestItemSchema, {
    ref: String(index),
    id,
    caption,
    imageUri,
    ...(metadata && { metadata }),
  });
  let error: LensmeshError | undefined;
  try {
    message.image = await imageMessage(item.image, limits);
  } catch (thrown) {
    const failed = LensmeshError.from(thrown);
    error =
      thrown instanceof LensmeshError
        ? failed
        : new LensmeshError(failed.message, { code: Code.InvalidArgument, cause: thrown });
  }
  const texts = id.length + caption.length + imageUri.length + (metadata ? JSON.stringify(metadata).length : 0);
  const bytes = imageBytes(message.image) + texts + ITEM_BYTES;
  return [{ index, ref, message, bytes, attempts: 0, strikes: 0 }, error];
}
