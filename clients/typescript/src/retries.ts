/** Interceptors: a call's name, and calls that are made again. */
import { MethodOptions_IdempotencyLevel as Level } from "@bufbuild/protobuf/wkt";
import { Code, type Interceptor } from "@connectrpc/connect";
import { LensmeshError, REQUEST_ID } from "./errors.js";
import { sleep } from "./waiting.js";

export interface RetryOptions {
  /** How often a call is made at most; 1: never again. */
  readonly attempts: number;
  /** The wait before the second, in milliseconds; it doubles from one to the next. */
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
}

export const DEFAULT_RETRIES: RetryOptions = { attempts: 4, firstDelayMs: 100, longestDelayMs: 5000 };

/** Return the wait after the try number `attempt`: with chance in it, so that clients do not come back together. */
export function backoffMs(attempt: number, { firstDelayMs, longestDelayMs }: RetryOptions, wantedMs = 0): number {
  const most = Math.min(firstDelayMs * 2 ** (attempt - 1), longestDelayMs);
  return Math.max(wantedMs, most * (0.5 + Math.random() / 2));
}

/**
 * Return an interceptor that makes unary calls again which ended UNAVAILABLE, where the contract says that the method
 * may be called twice. It waits as long as the server asks, and no longer than the call's own time allows.
 */
export function retries(options: RetryOptions = DEFAULT_RETRIES): Interceptor {
  return (next) => async (request) => {
    const level = request.method.idempotency;
    if (request.stream || level === Level.IDEMPOTENCY_UNKNOWN) {
      return next(request);
    }
    for (let attempt = 1; ; attempt++) {
      try {
        return await next(request);
      } catch (thrown) {
        const error = LensmeshError.from(thrown);
        if (error.code !== Code.Unavailable || attempt >= options.attempts || request.signal.aborted) {
          throw thrown;
        }
        await sleep(backoffMs(attempt, options, error.retryDelayMs), request.signal);
      }
    }
  };
}

/**
 * Return an interceptor that names each call, once for all its tries: the mesh writes the name into its logs, and makes
 * the id of a job out of it, so that a start that is sent again starts one job.
 */
export function requestIds(): Interceptor {
  return (next) => (request) => {
    if (!request.header.has(REQUEST_ID)) {
      request.header.set(REQUEST_ID, randomId());
    }
    return next(request);
  };
}

function randomId(): string {
  // crypto.randomUUID is missing in pages that did not come by HTTPS.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
