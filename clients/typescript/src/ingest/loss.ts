/** Streams and requests that break: whether another one can do better, and when. */
import { Code } from "@connectrpc/connect";
import type { LensmeshError } from "../errors.js";
import { backoffMs, DEFAULT_RETRIES } from "../retries.js";

// What a last stream gets where waiting has used up the patience.
const LAST_TRY_MS = 2000;
// Streams that an item may end, alone on them, before it is given up: where the server says that the message is at
// fault, and where the connection was lost without a word, which a router that is restarted does as well.
const STRIKES = 2;
const STRIKES_UNEXPLAINED = 3;
const RESUMABLE: readonly Code[] = [
  Code.Unavailable,
  Code.ResourceExhausted,
  Code.Canceled,
  Code.Aborted,
  Code.Internal,
  Code.Unknown,
  Code.DataLoss,
];

/** Tell whether a new stream can do better: the peer went away, drains, or gave up. A refusal stays one. */
export function resumable(error: LensmeshError): boolean {
  return RESUMABLE.includes(error.code);
}

/** Tell whether one message was at fault: what follows goes on without the item in it. */
export function ofAMessage(error: LensmeshError): boolean {
  return error.reason === "MESSAGE_MALFORMED" || error.reason === "MESSAGE_TOO_LARGE";
}

/** Tell whether one item may have ended the stream: no status that explains it came from the router. */
export function mayBeAnItems(error: LensmeshError): boolean {
  return ofAMessage(error) || ["", "UNKNOWN", "INTERNAL"].includes(error.reason);
}

/** Return how often an item may end a stream on which it is alone. */
export function strikes(error: LensmeshError): number {
  return ofAMessage(error) ? STRIKES : STRIKES_UNEXPLAINED;
}

/** Streams that broke one after another without an answer on any of them. */
export class Loss {
  private readonly failures: number;
  readonly giveUpAt: number;

  constructor(
    readonly error: LensmeshError,
    giveUpAt: number,
    before?: Loss,
  ) {
    this.failures = (before?.failures ?? 0) + 1;
    this.giveUpAt = before?.giveUpAt ?? giveUpAt;
  }

  /** Return how long the next stream may stay without an answer. */
  get lastTryMs(): number {
    return Math.max(LAST_TRY_MS, this.giveUpAt - Date.now());
  }

  /** Return the time to wait before the next stream. */
  get delayMs(): number {
    const delay = backoffMs(this.failures, DEFAULT_RETRIES, this.error.retryDelayMs);
    return Math.min(delay, Math.max(0, this.giveUpAt - Date.now()));
  }
}
