/** Errors of calls and of items, as lensmesh tells them. */
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import type { Reason } from "./gen/reasons.js";

/** One field of a request that was refused, and what is wrong with it. */
export interface FieldViolation {
  /** Its path: `queries[0].text`. */
  readonly field: string;
  readonly description: string;
}

/** What an error carries beside its text. */
export interface ErrorParts {
  readonly code: Code;
  readonly reason?: Reason | "";
  readonly fields?: readonly FieldViolation[];
  /** The time after which the same call may succeed, in milliseconds. */
  readonly retryDelayMs?: number | undefined;
  /** Values of the text, by name: `limit`, `got`. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly requestId?: string;
  readonly cause?: unknown;
}

/** A call that failed, or one item of a call. The text names the field, the limit and the fix. */
export class LensmeshError extends Error {
  override readonly name = "LensmeshError";
  readonly code: Code;
  /** Empty where the error did not come from lensmesh: a proxy, the network, a time-out. */
  readonly reason: Reason | "";
  readonly fields: readonly FieldViolation[];
  /** Set where the same call may succeed after this time, in milliseconds. */
  readonly retryDelayMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  /** The name of the call in the logs of the mesh; empty for an error of one item, and where nobody answered. */
  readonly requestId: string;

  constructor(message: string, parts: ErrorParts) {
    super(message, { cause: parts.cause });
    this.code = parts.code;
    this.reason = parts.reason ?? "";
    this.fields = parts.fields ?? [];
    this.retryDelayMs = parts.retryDelayMs;
    this.metadata = parts.metadata ?? {};
    this.requestId = parts.requestId ?? "";
  }

  /** Return what was thrown as a LensmeshError. */
  static from(thrown: unknown): LensmeshError {
    if (thrown instanceof LensmeshError) {
      return thrown;
    }
    const error = ConnectError.from(thrown);
    const details = error.details.map((one) =>
      "desc" in one ? { type: one.desc.typeName, value: new Uint8Array() } : one,
    );
    const lost = isLost(thrown) || isLost(error.cause) || error.rawMessage === CUT;
    return new LensmeshError(lost ? `the server cannot be reached: ${error.rawMessage}` : error.rawMessage, {
      ...readDetails(details),
      code: lost ? Code.Unavailable : error.code,
      requestId: error.metadata.get(REQUEST_ID)?.split(",")[0] ?? "",
      cause: thrown,
    });
  }

  /** Return the error of one item of an answer. */
  static fromStatus(status: Status): LensmeshError {
    const details = status.details.map((one) => ({ type: one.typeUrl.split("/").pop() ?? "", value: one.value }));
    return new LensmeshError(status.message, { ...readDetails(details), code: status.code as Code });
  }
}

/** The header that names a call. */
export const REQUEST_ID = "x-request-id";

// What fetch says, each browser in its own words, where nobody answers or the connection ends in the middle.
const LOST = /fetch|network|load failed|terminated/i;
// What connect-web says where an answer ends early.
const CUT = "missing EndStreamResponse";

function isLost(thrown: unknown): boolean {
  return thrown instanceof TypeError && LOST.test(thrown.message);
}

interface Detail {
  readonly type: string;
  readonly value: Uint8Array;
}

function readDetails(details: readonly Detail[]): Omit<ErrorParts, "code"> {
  let parts: Omit<ErrorParts, "code"> = {};
  for (const { type, value } of details) {
    try {
      if (type === ErrorInfoSchema.typeName) {
        const info = fromBinary(ErrorInfoSchema, value);
        parts = { ...parts, reason: info.reason as Reason, metadata: info.metadata };
      } else if (type === BadRequestSchema.typeName) {
        const violations = fromBinary(BadRequestSchema, value).fieldViolations;
        parts = { ...parts, fields: violations.map(({ field, description }) => ({ field, description })) };
      } else if (type === RetryInfoSchema.typeName) {
        const delay = fromBinary(RetryInfoSchema, value).retryDelay;
        parts = { ...parts, retryDelayMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6 };
      }
    } catch {
      // A detail that cannot be read takes nothing away from the error.
    }
  }
  return parts;
}
