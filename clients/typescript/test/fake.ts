/** A mesh that answers what a test tells it: the router by gRPC, and the front door by HTTP. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import { createHash } from "node:crypto";
import type { AddressInfo, Socket } from "node:net";
import type { TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { CaptionerService } from "../src/gen/lensmesh/caption/v1/caption_pb.js";
import { DataType, type Image } from "../src/gen/lensmesh/common/v1/common_pb.js";
import { EncoderService } from "../src/gen/lensmesh/encoder/v1/encoder_pb.js";
import {
  type IngestItem,
  type IngestOptions,
  type IngestStreamRequest,
  MatchVerdict,
  RouterService,
  type SearchRequest,
} from "../src/gen/lensmesh/router/v1/router_pb.js";
import { JobState, SearchService, UpsertOutcome } from "../src/gen/lensmesh/search/v1/search_pb.js";

export interface Trouble {
  readonly code: Code;
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
  readonly retryMs?: number;
}

const BAD: Trouble = { code: Code.InvalidArgument, reason: "IMAGE_UNDECODABLE", message: "no image", field: "image" };
const OVERLOADED: Trouble = { code: Code.ResourceExhausted, reason: "OVERLOADED", message: "later", retryMs: 1 };
const DRAINING: Trouble = { code: Code.Unavailable, reason: "DRAINING", message: "draining", retryMs: 1 };
/** The image that nobody can decode. */
export const BAD_IMAGE = new TextEncoder().encode("bad");

export class FakeMesh {
  // Faults.
  /** Ends the next calls of any kind. */
  failing: Trouble[] = [];
  /** Answers that a stream, or a request of an ingest, gives until it breaks; a new number for each. */
  breaksAfter: number[] = [];
  /** Whether it breaks with the connection, without a word. */
  breaksHard = false;
  /** An item's id at which a stream ends. */
  poison = "";
  poisonEndsWith: Trouble = { code: Code.Internal, reason: "INTERNAL", message: "a fault" };
  /** How often an item is refused as overload, by id. */
  overloaded = new Map<string, number>();
  /** Whether items of streams are answered at all. */
  answers = true;
  /** Looks at a job until its stream breaks. */
  watchBreaksAfter = Infinity;
  /** Told by GetStatus. */
  limits = { maxMessageBytes: 4_000_000n, maxItems: 100, maxImageBytes: 1_000_000n };

  // What was seen.
  calls: { method: string; requestId: string }[] = [];
  streams = 0;
  options: Partial<IngestOptions>[] = [];
  searched: SearchRequest[] = [];
  stored = new Map<string, IngestItem>();
  /** The content types of ingests by HTTP. */
  forms: string[] = [];
  /** Items that came, by id, those that came again included. */
  received: string[] = [];

  /** Ends the servers. */
  close: () => Promise<void> = () => Promise.resolve();
  grpc = "";
  http = "";
  private sockets = new Set<Socket>();
  private sessions = new Set<ServerHttp2Session>();

  /** Serve until the test ends. */
  static async start(test: TestContext): Promise<FakeMesh> {
    const mesh = new FakeMesh();
    const routes = (router: ConnectRouter) => mesh.routes(router);
    const grpc = createHttp2Server(connectNodeAdapter({ routes }));
    grpc.on("session", (session) => mesh.sessions.add(session));
    const rpc = connectNodeAdapter({ routes, grpc: false, grpcWeb: false });
    const http = createServer((request, response) => {
      if (request.url?.startsWith("/v1/ingest")) {
        void mesh.ingestHttp(request, response);
      } else {
        rpc(request, response);
      }
    });
    http.on("connection", (socket) => mesh.sockets.add(socket));
    await Promise.all([grpc, http].map((one) => new Promise<void>((done) => one.listen(0, "127.0.0.1", done))));
    mesh.grpc = `127.0.0.1:${(grpc.address() as AddressInfo).port}`;
    mesh.http = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    mesh.close = async () => {
      mesh.cut();
      await Promise.all([grpc, http].map((one) => new Promise((closed) => one.close(closed))));
    };
    test.after(() => mesh.close());
    return mesh;
  }

  /** End all connections without a word. */
  cut(): void {
    for (const session of this.sessions) session.destroy();
    for (const socket of this.sockets) socket.destroy();
    this.sessions.clear();
    this.sockets.clear();
  }

  private enter(context: HandlerContext): void {
    const requestId = context.requestHeader.get("x-request-id") ?? "";
    this.calls.push({ method: context.method.name, requestId });
    context.responseHeader.set("x-request-id", requestId);
    const trouble = context.method.name === "GetStatus" ? undefined : this.failing.shift();
    if (trouble !== undefined) throw failure(trouble, requestId);
  }

  private routes(router: ConnectRouter): void {
    router.service(RouterService, {
      getStatus: (_, context) => {
        this.enter(context);
        return { limits: this.limits, defaultCollection: "images" };
      },
      search: (request, context) => {
        this.enter(context);
        this.searched.push(request);
        return { hits: [{ item: { id: "cat", metadata: { animal: "cat" } }, score: 0.5 }], exact: true };
      },
      matchImages: ({ images }, context) => {
        this.enter(context);
        const match = { verdict: MatchVerdict.MATCH };
        return {
          results: images.map((one) => ({ outcome: isBad(one) ? failed(BAD) : { case: "match", value: match } })),
        };
      },
      ingest: ({ options, item }, context) => {
        this.enter(context);
        this.options.push(options ?? {});
        return { item: this.store(item as IngestItem) };
      },
      ingestStream: (requests, context) => this.ingestStream(requests, context),
    });
    router.service(CaptionerService, {
      captionImages: ({ images }, context) => {
        this.enter(context);
        return {
          results: images.map((one) => ({
            outcome: isBad(one) ? failed(BAD) : { case: "caption", value: { text: `a file of ${text(one)}` } },
          })),
        };
      },
    });
    router.service(EncoderService, {
      encodeTexts: ({ texts, options }, context) => {
        this.enter(context);
        const dataType = options?.dataType || DataType.FLOAT32;
        return {
          results: texts.map((one) => ({ outcome: { case: "embedding", value: vector(one.length, dataType) } })),
        };
      },
      classifyImages: ({ images, labels }, context) => {
        this.enter(context);
        const best = labels.map((label, index) => ({ index, label, probability: 1 / labels.length }));
        return {
          results: images.map((one) => ({ outcome: isBad(one) ? failed(BAD) : { case: "scores", value: { best } } })),
        };
      },
    });
    const mesh = this;
    router.service(SearchService, {
      createCollection: (_, context) => {
        this.enter(context);
        return {};
      },
      listJobs: ({ pageToken }, context) => {
        this.enter(context);
        return pageToken ? { jobs: [{ id: "two" }] } : { jobs: [{ id: "one" }], nextPageToken: "next" };
      },
      async *watchJob({ id }, context) {
        mesh.enter(context);
        for (let done = 1; done <= 3; done++) {
          if (done > mesh.watchBreaksAfter) {
            mesh.watchBreaksAfter = Infinity;
            throw failure(DRAINING);
          }
          const state = done === 3 ? JobState.SUCCEEDED : JobState.RUNNING;
          yield { job: { id, state, doneCount: BigInt(done), totalCount: 3n } };
        }
      },
    });
  }

  private store(item: IngestItem) {
    const id = item.id || createHash("sha256").update(bytes(item.image)).digest("hex");
    const outcome = this.stored.has(id) ? UpsertOutcome.UNCHANGED : UpsertOutcome.CREATED;
    this.stored.set(id, item);
    return { id, outcome, caption: { text: `a file of ${text(item.image)}` } };
  }

  /** Return what becomes of one item of a stream. */
  private take(item: IngestItem): Trouble | ReturnType<FakeMesh["store"]> {
    this.received.push(item.id);
    if (this.poison && item.id === this.poison) {
      throw failure(this.poisonEndsWith);
    }
    const left = this.overloaded.get(item.id) ?? 0;
    if (left > 0) {
      this.overloaded.set(item.id, left - 1);
      return OVERLOADED;
    }
    return isBad(item.image) ? BAD : this.store(item);
  }

  private breakNow(): void {
    if (this.breaksHard) this.cut();
    throw failure(DRAINING);
  }

  private async *ingestStream(requests: AsyncIterable<IngestStreamRequest>, context: HandlerContext) {
    this.streams += 1;
    this.enter(context);
    let left = this.breaksAfter.shift() ?? Infinity;
    for await (const { options, items } of requests) {
      if (options) this.options.push(options);
      for (const item of items) {
        if (left-- <= 0) this.breakNow();
        const taken = this.take(item);
        if (!this.answers) continue;
        const outcome = "code" in taken ? failed(taken) : ({ case: "item", value: taken } as const);
        yield { results: [{ ref: item.ref, outcome }] };
      }
    }
  }

  private async ingestHttp(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.streams += 1;
    const url = new URL(request.url ?? "", this.http);
    this.options.push(Object.fromEntries(url.searchParams) as Partial<IngestOptions>);
    response.setHeader("x-request-id", "http-request");
    const items = await itemsOf(request);
    this.forms.push(request.headers["content-type"]?.split(";")[0] ?? "");
    const trouble = this.failing.shift();
    if (trouble !== undefined) {
      response.writeHead(trouble.code === Code.Unavailable ? 503 : 400, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: errorJson(trouble) }));
      return;
    }
    let left = this.breaksAfter.shift() ?? Infinity;
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    response.flushHeaders();
    try {
      for (const sent of items) {
        if (left-- <= 0) this.breakNow();
        const taken = this.take(sent);
        if (!this.answers) continue;
        const told =
          "code" in taken
            ? { error: errorJson(taken) }
            : {
                image: { id: taken.id, caption: taken.caption.text },
                outcome: UpsertOutcome[taken.outcome].toLowerCase(),
              };
        const text = `${JSON.stringify({ ref: sent.ref, ...told })}\n`;
        await new Promise((written) => response.write(text, written));
      }
      if (this.answers) response.end(`${JSON.stringify({ done: { items: items.length } })}\n`);
    } catch {
      response.destroy();
    }
  }
}

/** Return a status error with its details. */
export function failure(trouble: Trouble, requestId = ""): ConnectError {
  const details = [];
  if (trouble.reason) {
    details.push({
      desc: ErrorInfoSchema,
      value: { reason: trouble.reason, domain: "lensmesh", metadata: { limit: "5" } },
    });
  }
  if (trouble.field) {
    const fieldViolations = [{ field: trouble.field, description: "wrong" }];
    details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (trouble.retryMs !== undefined) {
    details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(trouble.retryMs) } });
  }
  return new ConnectError(trouble.message ?? "", trouble.code, { "x-request-id": requestId }, details);
}

function failed(trouble: Trouble): { case: "error"; value: Status } {
  const details = failure(trouble).details.map((one) =>
    "desc" in one ? anyPack(one.desc, create(one.desc, one.value as Record<string, unknown>)) : (undefined as never),
  );
  return {
    case: "error",
    value: create(StatusSchema, { code: trouble.code, message: trouble.message ?? "", details }),
  };
}

function errorJson({ code, reason, message, field, retryMs }: Trouble) {
  const name = Code[code].replace(/(?!^)([A-Z])/g, "_$1").toUpperCase();
  return {
    code: name,
    reason,
    message,
    ...(field && { fields: [{ field, description: "wrong" }] }),
    ...(retryMs !== undefined && { retry_after_seconds: retryMs / 1000 }),
  };
}

function vector(value: number, dataType: DataType) {
  const data =
    dataType === DataType.FLOAT16
      ? new Uint8Array(Uint16Array.from([0x3c00, 0xc000, 0x3555]).buffer)
      : new Uint8Array(Float32Array.from([value, -1]).buffer);
  return { spaceId: "vs1-fake", dataType, dimension: 2, data };
}

/** Return the items of an ingest's body, in either form. */
async function itemsOf(request: IncomingMessage): Promise<IngestItem[]> {
  const type = request.headers["content-type"] ?? "";
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const items: (Record<string, unknown> & { value: Uint8Array | string })[] = [];
  if (type.startsWith("multipart/form-data")) {
    const body = new Response(Buffer.concat(parts), { headers: { "content-type": type } });
    for (const [name, value] of await body.formData()) {
      if (typeof value !== "string") items.push({ value: new Uint8Array(await value.arrayBuffer()) });
      else Object.assign(items.at(-1) as object, { [name]: name === "metadata" ? JSON.parse(value) : value });
    }
  } else {
    for (const line of Buffer.concat(parts).toString().trim().split("\n")) {
      const { base64, url, ...sent } = JSON.parse(line);
      items.push({ ...sent, value: base64 === undefined ? url : Buffer.from(base64, "base64") });
    }
  }
  return items.map(({ value, ...sent }) => {
    const source = typeof value === "string" ? { case: "uri", value } : { case: "content", value };
    return { id: "", ...sent, image: { source } } as unknown as IngestItem;
  });
}

function bytes(image: Image | undefined): Uint8Array {
  return image?.source.case === "content" ? image.source.value : new Uint8Array();
}

function text(image: Image | undefined): string {
  return new TextDecoder().decode(bytes(image));
}

function isBad(image: Image | undefined): boolean {
  return text(image) === "bad";
}
