/** The client for browsers and Node. What only Node has is in `lensmesh-client/node`. */
export { Code } from "@connectrpc/connect";
export type { Outcome } from "./batches.js";
export { Client, type Labels, type Stubs } from "./client.js";
export { createClient, type HttpOptions } from "./connect.js";
export { type ErrorParts, type FieldViolation, LensmeshError } from "./errors.js";
export * as filters from "./filters.js";
export type { Reason } from "./gen/reasons.js";
export type { ImageInput } from "./images.js";
export type {
  IngestItem,
  IngestManyOptions,
  IngestOptions,
  IngestOutcome,
  IngestProgress,
  IngestResult,
} from "./ingest/types.js";
export { Jobs } from "./jobs.js";
export type { QueryInput, QueryParts, SearchOptions } from "./queries.js";
export type { RetryOptions } from "./retries.js";
export type { Embedding } from "./vectors.js";
