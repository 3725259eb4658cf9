/** What an ingest takes and answers, whichever way it goes. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import type { LensmeshError } from "../errors.js";
import type { IngestedItem, IngestOptionsSchema } from "../gen/lensmesh/router/v1/router_pb.js";
import type { ImageInput } from "../images.js";

/** One image to make findable. */
export interface IngestItem {
  readonly image: ImageInput;
  /** The caller's own name of it, echoed in its result; never stored. */
  readonly ref?: string;
  /** What it is stored under; the image's SHA-256 where there is none. */
  readonly id?: string;
  readonly metadata?: JsonObject;
  /** Stored instead of one that is made. */
  readonly caption?: string;
  /** Where the image lies, for people; never fetched. */
  readonly imageUri?: string;
}

export interface IngestOptions {
  /** Made where it is missing; the mesh's default where none is named. */
  readonly collection?: string;
  /** Whether items are refused without a caption; "best-effort" where nothing is said. */
  readonly captions?: "best-effort" | "required" | "none";
  /** What becomes of images that look the same as stored ones. Nothing is looked for where nothing is said. */
  readonly nearDuplicates?: "store" | "mark" | "skip";
  /** All else that the contract's options have; by gRPC, and by `ingest`. */
  readonly more?: MessageInitShape<typeof IngestOptionsSchema>;
}

export interface IngestManyOptions extends IngestOptions {
  readonly signal?: AbortSignal;
  readonly headers?: HeadersInit;
  /** How long no answer at all may come until the ingest is given up, in milliseconds; 60,000 where nothing is said. */
  readonly patienceMs?: number;
  /** How often an item is sent whose error says that it may succeed later; 5 where nothing is said. */
  readonly attempts?: number;
  /** Items and bytes that are read ahead; 256 and 64 MiB where nothing is said. */
  readonly windowItems?: number;
  readonly windowBytes?: number;
  /** Told after each result. */
  readonly onProgress?: (progress: IngestProgress) => void;
  /** Told each time a stream or a request broke: why, and how many items are sent again. */
  readonly onResume?: (error: LensmeshError, items: number) => void;
}

/** How far an ingest is. */
export interface IngestProgress {
  /** Items that were read of the input. */
  readonly read: number;
  /** Results so far: the sum of the following. */
  readonly done: number;
  readonly created: number;
  readonly updated: number;
  readonly unchanged: number;
  readonly skipped: number;
  readonly failed: number;
}

export type IngestOutcome = "created" | "updated" | "unchanged" | "skipped";

/** What became of one item: durable, or failed for good. */
export interface IngestResult {
  /** Its place in the input, from 0. */
  readonly index: number;
  /** IngestItem.ref. */
  readonly ref: string;
  /** What it is stored under; empty where it failed. */
  readonly id: string;
  readonly outcome: IngestOutcome | "failed";
  readonly caption?: string | undefined;
  /** The item that looks the same. */
  readonly nearDuplicate?: { readonly id: string; readonly distance: number } | undefined;
  readonly error?: LensmeshError | undefined;
  /** All that the mesh said of it; by gRPC only. */
  readonly item?: IngestedItem;
}

/** Makes any number of images findable, and yields a result for each as it becomes durable or fails for good. */
export type IngestMany = (
  items: AsyncIterable<IngestItem> | Iterable<IngestItem>,
  options?: IngestManyOptions,
) => AsyncGenerator<IngestResult>;
