/** The client by HTTP: for browsers, and wherever the front door is what can be reached. */
import type { Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Client } from "./client.js";
import { byHttp } from "./ingest/http.js";
import { DEFAULT_RETRIES, requestIds, retries, type RetryOptions } from "./retries.js";

export interface HttpOptions {
  /** Address of the front door: "https://lensmesh.example.org"; `location.origin` in a page that it serves itself. */
  readonly baseUrl: string;
  /** Time that a call may take, in milliseconds, where the call says nothing. */
  readonly timeoutMs?: number;
  readonly retries?: Partial<RetryOptions>;
  /** Run before those of the client; they see each call once. */
  readonly interceptors?: readonly Interceptor[];
  readonly fetch?: typeof globalThis.fetch;
}

/** Return a client that speaks the Connect protocol with the front door. */
export function createClient(options: HttpOptions): Client {
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  const again = { ...DEFAULT_RETRIES, ...options.retries };
  const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  const transport = createConnectTransport({
    baseUrl,
    fetch,
    useBinaryFormat: true,
    interceptors: [...(options.interceptors ?? []), requestIds(), retries(again)],
    ...(options.timeoutMs !== undefined && { defaultTimeoutMs: options.timeoutMs }),
  });
  return new Client({
    transport,
    retries: again,
    bulk: (_, given) => byHttp(baseUrl, fetch, given, given.headers),
  });
}
