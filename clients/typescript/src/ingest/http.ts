/** Ingest by the front door's POST /v1/ingest: for browsers, whose requests cannot stream. */
import { base64Encode } from "@bufbuild/protobuf/wire";
import { Code, codeFromString } from "./codes.js";
import { LensmeshError, REQUEST_ID } from "../errors.js";
import type { Reason } from "../gen/reasons.js";
import { sleep } from "../waiting.js";
import type { Send } from "./bulk.js";
import type { IngestOptions, IngestOutcome, IngestResult } from "./types.js";
import type { Entry, Room } from "./window.js";

// Answers come while a request runs, but the next items only go with the next one.
const GROUP: Room = { items: 64, bytes: 16 * 1024 * 1024 };
const GATHER_MS = 50;
const NDJSON = "application/x-ndjson";

/** An error, as the front door writes it. */
interface ErrorJson {
  readonly code?: string;
  readonly reason?: Reason;
  readonly message?: string;
  readonly fields?: { field: string; description: string }[];
  readonly retry_after_seconds?: number;
  readonly metadata?: Record<string, string>;
}

/** A line of the answer. */
interface LineJson {
  readonly ref?: string;
  readonly image?: { id?: string; caption?: string | null };
  readonly outcome?: IngestOutcome;
  readonly near_duplicate?: { id: string; distance: number };
  readonly error?: ErrorJson;
  readonly done?: object;
}

/** Return what sends what is ready as one request. */
export function byHttp(
  baseUrl: string,
  fetch: typeof globalThis.fetch,
  options: IngestOptions,
  headers?: HeadersInit,
): Send {
  if (options.more !== undefined) {
    const description = "`more` goes by gRPC only: use collection, captions and nearDuplicates, or createNodeClient";
    const fields = [{ field: "more", description }];
    throw new LensmeshError(description, { code: Code.InvalidArgument, reason: "OPTION_INVALID", fields });
  }
  const asked = new URLSearchParams();
  if (options.collection !== undefined) asked.set("collection", options.collection);
  if (options.captions !== undefined) asked.set("captions", options.captions);
  if (options.nearDuplicates !== undefined) asked.set("near_duplicates", options.nearDuplicates);
  const url = `${baseUrl}/v1/ingest?${asked}`;
  return async ({ window, signal, answer }) => {
    // The first request would go with the first item alone.
    for (const until = Date.now() + GATHER_MS; !window.fills(GROUP) && Date.now() < until; ) {
      await sleep(GATHER_MS / 10, signal);
    }
    const group = window.take(GROUP);
    const sent = new Headers(headers);
    sent.set("accept", NDJSON);
    const body = group.some(({ message }) => message.image?.source.case === "uri") ? byLine(group) : form(group);
    const response = await fetch(url, { method: "POST", headers: sent, body, signal });
    const requestId = response.headers.get(REQUEST_ID) ?? "";
    if (!response.ok || response.body === null) {
      throw await refusal(response, requestId);
    }
    for await (const text of lines(response.body)) {
      const told = JSON.parse(text) as LineJson;
      if (told.ref !== undefined) {
        answer(told.ref, result(told));
      } else if (told.error !== undefined) {
        throw readError(told.error, requestId);
      }
    }
  };
}

/** Return what a request says of an item beside its image. */
function said({ message }: Entry) {
  const { ref, id, metadata, caption, imageUri } = message;
  return {
    ref,
    ...(id && { id }),
    ...(metadata && { metadata }),
    ...(caption && { caption }),
    ...(imageUri && { image_uri: imageUri }),
  };
}

/** Return items as a form: the bytes of their images as they are. */
function form(group: readonly Entry[]): FormData {
  const parts = new FormData();
  for (const entry of group) {
    parts.append("file", new Blob([entry.message.image?.source.value as Uint8Array<ArrayBuffer>]));
    for (const [name, value] of Object.entries(said(entry))) {
      parts.append(name, typeof value === "string" ? value : JSON.stringify(value));
    }
  }
  return parts;
}

/** Return items as lines of JSON, which may name images by their address. */
function byLine(group: readonly Entry[]): Blob {
  const texts = group.map((entry) => {
    const source = entry.message.image?.source;
    const image = source?.case === "content" ? { base64: base64Encode(source.value) } : { url: source?.value };
    return `${JSON.stringify({ ...said(entry), ...image })}\n`;
  });
  return new Blob(texts, { type: NDJSON });
}

function result(told: LineJson): Omit<IngestResult, "index" | "ref"> | LensmeshError {
  if (told.error !== undefined) {
    return readError(told.error, "");
  }
  return {
    id: told.image?.id ?? "",
    outcome: told.outcome ?? "unchanged",
    caption: told.image?.caption ?? undefined,
    nearDuplicate: told.near_duplicate,
  };
}

function readError(error: ErrorJson, requestId: string): LensmeshError {
  const wait = error.retry_after_seconds;
  return new LensmeshError(error.message ?? "", {
    code: codeFromString(error.code ?? ""),
    reason: error.reason ?? "",
    fields: error.fields ?? [],
    retryDelayMs: wait === undefined ? undefined : wait * 1000,
    metadata: error.metadata ?? {},
    requestId,
  });
}

/** Return the error of a whole request. A proxy's own has no JSON of ours. */
async function refusal(response: Response, requestId: string): Promise<LensmeshError> {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text) as { error?: ErrorJson };
    if (error?.code !== undefined) {
      return readError(error, requestId);
    }
  } catch {
    // Not JSON.
  }
  const code = [429, 502, 503, 504].includes(response.status) ? Code.Unavailable : Code.Unknown;
  return new LensmeshError(`the answer is HTTP ${response.status}: ${text.slice(0, 200)}`, { code, requestId });
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const parts = (rest + decoder.decode(next.value, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      yield* parts.filter((part) => part.trim() !== "");
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
