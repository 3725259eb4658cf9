/** Ingest by RouterService.IngestStream: a stream in both directions, which only gRPC has. */
import type { Client } from "@connectrpc/connect";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { LensmeshError } from "../errors.js";
import type { Status } from "../gen/google/rpc/status_pb.js";
import {
  CaptionPolicy,
  type IngestedItem,
  IngestOptionsSchema,
  type IngestOptions as OptionsMessage,
  type IngestStreamRequestSchema,
  NearDuplicateAction,
  NearDuplicateOptionsSchema,
  type RouterService,
} from "../gen/lensmesh/router/v1/router_pb.js";
import { UpsertOutcome } from "../gen/lensmesh/search/v1/search_pb.js";
import type { Attempt, Send } from "./bulk.js";
import type { IngestOptions, IngestOutcome, IngestResult } from "./types.js";
import type { Room } from "./window.js";

// Messages are filled so far: enough for throughput, little enough to keep answers flowing.
const GROUP: Room = { items: 32, bytes: 4 * 1024 * 1024 };
const CAPTIONS = {
  "best-effort": CaptionPolicy.BEST_EFFORT,
  required: CaptionPolicy.REQUIRED,
  none: CaptionPolicy.NONE,
};
const NEAR_DUPLICATES = {
  store: NearDuplicateAction.STORE,
  mark: NearDuplicateAction.MARK,
  skip: NearDuplicateAction.SKIP,
};
const OUTCOMES: Partial<Record<UpsertOutcome, IngestOutcome>> = {
  [UpsertOutcome.CREATED]: "created",
  [UpsertOutcome.UPDATED]: "updated",
  [UpsertOutcome.UNCHANGED]: "unchanged",
  [UpsertOutcome.SKIPPED]: "skipped",
};

/** Return the contract's options. */
export function optionsMessage({ collection, captions, nearDuplicates, more }: IngestOptions): OptionsMessage {
  const message = create(IngestOptionsSchema, more);
  if (collection !== undefined) message.collection = collection;
  if (captions !== undefined) message.captions = CAPTIONS[captions];
  if (nearDuplicates !== undefined) {
    message.nearDuplicates = create(NearDuplicateOptionsSchema, { action: NEAR_DUPLICATES[nearDuplicates] });
  }
  return message;
}

/** Return what a durable item's message says. */
export function durable(item: IngestedItem): Omit<IngestResult, "index" | "ref"> {
  return {
    id: item.id,
    outcome: OUTCOMES[item.outcome] ?? "unchanged",
    caption: item.caption?.text,
    nearDuplicate: item.nearDuplicate && { id: item.nearDuplicate.id, distance: item.nearDuplicate.distance },
    item,
  };
}

/** Return what sends over one stream. */
export function byStream(router: Client<typeof RouterService>, options: IngestOptions, headers?: HeadersInit): Send {
  const first = optionsMessage(options);
  return async (attempt) => {
    const { signal } = attempt;
    const wake = () => attempt.window.wake();
    signal.addEventListener("abort", wake, { once: true });
    const call = { signal, ...(headers && { headers }) };
    for await (const { results } of router.ingestStream(requests(first, attempt), call)) {
      for (const { ref, outcome } of results) {
        const failed = outcome.case === "item" ? undefined : LensmeshError.fromStatus(outcome.value as Status);
        attempt.answer(ref, outcome.case === "item" ? durable(outcome.value) : (failed as LensmeshError));
      }
    }
  };
}

async function* requests(
  options: OptionsMessage,
  { window, limits, signal }: Attempt,
): AsyncGenerator<MessageInitShape<typeof IngestStreamRequestSchema>> {
  const room = {
    items: Math.min(GROUP.items, limits.maxItems || Infinity),
    bytes: Math.min(GROUP.bytes, Number(limits.maxMessageBytes) || Infinity),
  };
  yield { options };
  while (!signal.aborted && !window.nothingToSend) {
    const group = window.take(room);
    if (group.length > 0) {
      yield { items: group.map((entry) => entry.message) };
    } else {
      await window.changed();
    }
  }
}
