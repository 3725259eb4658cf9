/** Lists that are cut into calls as the mesh's limits say. */
import { LensmeshError } from "./errors.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import type { Limits } from "./gen/lensmesh/common/v1/common_pb.js";

/** One item's answer: what was asked for, or why there is none. */
export type Outcome<T> = { readonly value: T; readonly error?: undefined } | Failed;

export interface Failed {
  readonly value?: undefined;
  readonly error: LensmeshError;
}

/** Return an answer's `oneof outcome` as an Outcome. `T` is what stands beside the error. */
export function outcome<T>(
  given: { case: string; value: unknown } | { case: undefined; value?: undefined },
): Outcome<T> {
  return given.case === "error"
    ? { error: LensmeshError.fromStatus(given.value as Status) }
    : { value: given.value as T };
}

// What a message has beside its items, and what tags and lengths take.
const ROOM_FOR_OPTIONS = 64 * 1024;
const ITEM_OVERHEAD = 16;
const CALLS_AT_ONCE = 4;

/** Cut items into lists that each fit one call. An item that fits none goes alone: the mesh says what is wrong. */
export function cut<T>(items: readonly T[], bytes: (item: T) => number, limits: Limits): T[][] {
  const mostItems = limits.maxItems || Infinity;
  const mostBytes = Number(limits.maxMessageBytes) - ROOM_FOR_OPTIONS || Infinity;
  const lists: T[][] = [];
  let size = Infinity;
  for (const item of items) {
    const own = bytes(item) + ITEM_OVERHEAD;
    const last = lists.at(-1);
    if (last === undefined || last.length >= mostItems || size + own > mostBytes) {
      lists.push([item]);
      size = own;
    } else {
      last.push(item);
      size += own;
    }
  }
  return lists;
}

/**
 * Make the calls of lists, some at a time, and return their answers in the order of the items. Throws what the first
 * call that failed threw; no further one is begun then.
 */
export async function inBatches<T, R>(lists: readonly T[][], call: (list: T[]) => Promise<R[]>): Promise<R[]> {
  const answers: R[][] = new Array(lists.length);
  let next = 0;
  let failed = false;
  const work = async () => {
    while (next < lists.length && !failed) {
      const index = next++;
      try {
        answers[index] = await call(lists[index] as T[]);
      } catch (thrown) {
        failed = true;
        throw thrown;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CALLS_AT_ONCE, lists.length) }, work));
  return answers.flat();
}
