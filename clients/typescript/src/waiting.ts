/** Waiting for time and for one another. */

/** Wait. Throws the signal's reason as soon as it is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const ended = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", ended);
      resolve();
    }, ms);
    signal?.addEventListener("abort", ended, { once: true });
  });
}

/** A bell: those who wait go on when it is rung, and look for themselves what has changed. */
export class Bell {
  private waiting: (() => void)[] = [];

  ring(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const go of waiting) {
      go();
    }
  }

  heard(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

/** What one part puts in and another takes out, in order, until it is closed. */
export class Queue<T> {
  private readonly items: T[] = [];
  private readonly bell = new Bell();
  private closed = false;

  put(item: T): void {
    this.items.push(item);
    this.bell.ring();
  }

  close(): void {
    this.closed = true;
    this.bell.ring();
  }

  /** Return the next one; undefined once it is closed and empty. */
  async take(): Promise<T | undefined> {
    while (this.items.length === 0 && !this.closed) {
      await this.bell.heard();
    }
    return this.items.shift();
  }
}
