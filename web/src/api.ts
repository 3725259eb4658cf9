import type { ApiErrorBody, IngestLine } from "./types";
import { connectionFailed, connectionWorks } from "./connection";

/** What went wrong with a request, in words for people. `status` is 0 where no answer came. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly reason = "",
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
  }

  /** Whether the same request may work later: the mesh is away or has too much to do. */
  get isTemporary(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

export interface Answer<T> {
  value: T;
  traceId: string;
}

/** Return the error that a body of the REST face tells. */
export function explained(body: ApiErrorBody | undefined, status: number): ApiError {
  const fields = (body?.fields ?? []).map((each) => `${each.field}: ${each.description}`);
  const message = [body?.message || `The server answered with status ${status}.`, ...fields].join(" ");
  return new ApiError(status, message, body?.reason ?? "", body?.retry_after_seconds ?? null);
}

/** Send a request. Reads are sent once more where the connection was closed meanwhile. Throws ApiError, or AbortError. */
export async function send(path: string, init: RequestInit = {}, repeatable = true): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init).catch((error: unknown) => {
      if (!repeatable || init.signal?.aborted) throw error;
      return fetch(path, init);
    });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    connectionFailed("The server cannot be reached.");
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (response.ok) {
    connectionWorks();
    return response;
  }
  let body: ApiErrorBody | undefined;
  try {
    body = ((await response.json()) as { error?: ApiErrorBody }).error;
  } catch {
    body = undefined;
  }
  const error = explained(body, response.status);
  if (error.status >= 502 && error.reason !== "OVERLOADED") connectionFailed(error.message);
  throw error;
}

/** Send a request and read JSON of its answer. */
export async function ask<T>(path: string, init: RequestInit = {}, repeatable = true): Promise<Answer<T>> {
  const response = await send(path, init, repeatable);
  try {
    const value = (await response.json()) as T;
    return { value, traceId: response.headers.get("lensmesh-trace-id") ?? "" };
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, "The answer broke off.");
  }
}

/** Return a path with those parameters that have a value. */
export function withParams(path: string, params: Record<string, string | number | null | undefined>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, String(value));
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

/** Yield the lines of an answer of JSON lines as they come. */
export async function* lines(response: Response): AsyncGenerator<IngestLine> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) if (part.trim()) yield JSON.parse(part) as IngestLine;
    }
    if (rest.trim()) yield JSON.parse(rest) as IngestLine;
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
