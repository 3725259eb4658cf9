/** What only Node has: the client by gRPC, with ingest streams, and images of a folder. */
import { readdir, readFile } from "node:fs/promises";
import type { ClientHttp2Stream, SecureClientSessionOptions } from "node:http2";
import { extname, join, relative, sep } from "node:path";
import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Client } from "./client.js";
import { byStream } from "./ingest/stream.js";
import type { IngestItem } from "./ingest/types.js";
import { DEFAULT_RETRIES, requestIds, retries, type RetryOptions } from "./retries.js";

export * from "./index.js";

// As every client of the mesh: servers allow twice as many.
const PING = { pingIntervalMs: 20_000, pingTimeoutMs: 10_000, pingIdleConnection: true };

export interface GrpcOptions {
  /** The router: "127.0.0.1:50050". */
  readonly target: string;
  /** TLS: `{}` for the system's authorities, or `ca`, and `cert` and `key` of the client's own. Plain without it. */
  readonly tls?: SecureClientSessionOptions;
  /** Time that a call may take, in milliseconds, where the call says nothing. */
  readonly timeoutMs?: number;
  readonly retries?: Partial<RetryOptions>;
  /** Run before those of the client; they see each call once. */
  readonly interceptors?: readonly Interceptor[];
}

/**
 * Connections whose end is no uncaught exception: connect-node takes its listener off a connection before the error
 * that it ends with is told, where the server says GOAWAY as the client closes it or opens another.
 */
class Sessions extends Http2SessionManager {
  private readonly heard = new WeakSet<object>();

  override async request(...given: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...given);
    const { session } = stream;
    if (session !== undefined && !this.heard.has(session)) {
      this.heard.add(session);
      session.on("error", () => undefined);
    }
    return stream;
  }
}

/** A client by gRPC, with a connection of its own. */
export class NodeClient extends Client {
  private readonly session: Http2SessionManager;

  constructor(options: GrpcOptions) {
    const baseUrl = `${options.tls ? "https" : "http"}://${options.target}`;
    const again = { ...DEFAULT_RETRIES, ...options.retries };
    const session = new Sessions(baseUrl, PING, options.tls);
    const transport = createGrpcTransport({
      baseUrl,
      sessionManager: session,
      interceptors: [...(options.interceptors ?? []), requestIds(), retries(again)],
      ...(options.timeoutMs !== undefined && { defaultTimeoutMs: options.timeoutMs }),
    });
    super({ transport, retries: again, bulk: ({ router }, given) => byStream(router, given, given.headers) });
    this.session = session;
  }

  /** End the connection, with all calls on it. */
  close(): void {
    this.session.abort();
  }
}

/** Return a client that speaks gRPC with the router. Close it, or Node does not end for a while. */
export function createNodeClient(options: GrpcOptions): NodeClient {
  return new NodeClient(options);
}

const EXTENSIONS = new Set([".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"]);

/** Yield the images in a folder and below it, each with its path there as `ref` and `imageUri`, read when sent. */
export async function* imagesOf(folder: string): AsyncGenerator<IngestItem> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = found.filter((one) => one.isFile() && EXTENSIONS.has(extname(one.name).toLowerCase()));
  for (const path of paths.map((one) => join(one.parentPath, one.name)).sort()) {
    const ref = relative(folder, path).split(sep).join("/");
    yield { ref, imageUri: ref, image: () => readFile(path) };
  }
}
