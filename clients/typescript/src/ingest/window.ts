/** Items that were read and have no final answer yet: bounded in items and bytes, by id in order. */
import type { IngestItem as ItemMessage } from "../gen/lensmesh/router/v1/router_pb.js";
import { Bell } from "../waiting.js";

/** An item on its way. The `ref` of its message is its place in the input. */
export interface Entry {
  readonly index: number;
  readonly ref: string;
  readonly message: ItemMessage;
  readonly bytes: number;
  attempts: number;
  /** Streams that ended while this was the only item on them without an answer. */
  strikes: number;
}

/** How much one message, or one request, may hold. */
export interface Room {
  readonly items: number;
  readonly bytes: number;
}

/** Every entry is in exactly one place: waiting to be sent, sent, or waiting to be sent again later. */
export class Window {
  private ready: Entry[] = [];
  private readonly sent = new Map<string, Entry>();
  private readonly later = new Map<Entry, ReturnType<typeof setTimeout>>();
  private readonly held = new Set<Entry>();
  private readonly ids = new Set<string>();
  private bytes = 0;
  private exhausted = false;
  /** How many may be sent and not answered, while an item is sought that ends streams. */
  private mostOut = Infinity;
  private readonly room = new Bell();
  private readonly work = new Bell();
  /** Answers so far. */
  answers = 0;
  /** When the first of what is sent and has no answer was sent, or the last answer came. */
  waitingSince: number | undefined;

  constructor(
    private readonly mostItems: number,
    private readonly mostBytes: number,
  ) {}

  /** Entries that are sent and not answered. */
  get out(): number {
    return this.sent.size;
  }

  /** Whether nothing is left to send: neither now nor after a timer nor from the input. */
  get nothingToSend(): boolean {
    return this.exhausted && this.ready.length === 0 && this.later.size === 0;
  }

  /**
   * Wait for room; one entry larger than all the room goes alone. Two entries of one id are never on their way
   * together, so that none overtakes. One that is not to be sent only takes its room.
   */
  async admit(entry: Entry, send = true): Promise<void> {
    const id = entry.message.id;
    while (
      this.held.size > 0 &&
      (this.held.size >= this.mostItems || this.bytes + entry.bytes > this.mostBytes || (id && this.ids.has(id)))
    ) {
      await this.room.heard();
    }
    this.held.add(entry);
    this.ids.add(id);
    this.bytes += entry.bytes;
    if (send) {
      this.ready.push(entry);
      this.work.ring();
    }
  }

  /** Forget an entry whose result the caller has taken. */
  release(entry: Entry): void {
    this.held.delete(entry);
    this.ids.delete(entry.message.id);
    this.bytes -= entry.bytes;
    this.room.ring();
  }

  /** Take note that nothing more will be admitted. */
  end(): void {
    this.exhausted = true;
    this.work.ring();
  }

  /** Wait until there is something to send (true), or all is answered (false). */
  async somethingToDo(): Promise<boolean> {
    while (this.ready.length === 0) {
      if (this.nothingToSend && this.sent.size === 0) {
        return false;
      }
      await this.work.heard();
    }
    return true;
  }

  /** Tell whether waiting adds nothing to what can be taken: that is enough, or no more can be read now. */
  fills(room: Room): boolean {
    const bytes = this.ready.reduce((sum, entry) => sum + entry.bytes, 0);
    const full = this.held.size >= this.mostItems || this.bytes >= this.mostBytes;
    return this.exhausted || full || this.ready.length >= room.items || bytes >= room.bytes;
  }

  /** Wait for a change: of what is ready, of what is answered, or by `wake`. */
  changed(): Promise<void> {
    return this.work.heard();
  }

  /** Let those go on who wait for work. */
  wake(): void {
    this.work.ring();
  }

  /** Return what fits the next message, marked as sent; empty where nothing is ready. */
  take(room: Room): Entry[] {
    const group: Entry[] = [];
    const most = Math.min(room.items, this.mostOut - this.sent.size);
    let bytes = 0;
    while (group.length < most) {
      const entry = this.ready[0];
      if (entry === undefined || (group.length > 0 && bytes + entry.bytes > room.bytes)) {
        break;
      }
      this.ready.shift();
      this.sent.set(entry.message.ref, entry);
      entry.attempts += 1;
      bytes += entry.bytes;
      group.push(entry);
    }
    if (group.length > 0) {
      this.waitingSince ??= Date.now();
    }
    return group;
  }

  /** Take out the sent entry of that ref; undefined for one that was not asked, or has its answer. */
  answered(ref: string): Entry | undefined {
    const entry = this.sent.get(ref);
    if (entry === undefined) {
      return undefined;
    }
    this.sent.delete(ref);
    this.answers += 1;
    this.waitingSince = this.sent.size > 0 ? Date.now() : undefined;
    if (this.sent.size === 0) {
      // None of these ends a stream: twice as many may go now.
      this.mostOut *= 2;
    }
    this.work.ring();
    return entry;
  }

  /** Let half as many out as are out now: one of them may have ended the stream. Return the one that was alone. */
  narrow(): Entry | undefined {
    if (this.sent.size > 0) {
      this.mostOut = Math.max(1, Math.floor(this.sent.size / 2));
    }
    return this.sent.size === 1 ? this.sent.values().next().value : undefined;
  }

  /** Send this entry no more; its room is kept until its result is taken. */
  giveUp(entry: Entry): void {
    this.sent.delete(entry.message.ref);
    this.mostOut = Infinity;
  }

  /** Send an answered entry after a time, unless the window is closed before. */
  sendAgain(entry: Entry, delayMs: number): void {
    const due = () => {
      this.later.delete(entry);
      this.ready.push(entry);
      this.work.ring();
    };
    this.later.set(entry, setTimeout(due, delayMs));
  }

  /** Make what was sent and not answered ready again, the oldest first. Return how many that were. */
  unsend(): number {
    const count = this.sent.size;
    this.ready = [...this.sent.values(), ...this.ready].sort((one, other) => one.index - other.index);
    this.sent.clear();
    this.waitingSince = undefined;
    return count;
  }

  /** Stop the timers, and let those go on who wait for room. */
  close(): void {
    for (const timer of this.later.values()) {
      clearTimeout(timer);
    }
    this.later.clear();
    this.mostOut = Infinity;
    this.room.ring();
    this.work.ring();
  }
}
