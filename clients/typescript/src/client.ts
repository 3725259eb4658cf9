/** The client's calls: the same for browsers and Node, by the Connect protocol and by gRPC. */
import { type MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client as Stub, createClient as createStub, type Transport } from "@connectrpc/connect";
import { cut, inBatches, type Outcome, outcome } from "./batches.js";
import { LensmeshError } from "./errors.js";
import { CaptionerService, type CaptionOptionsSchema } from "./gen/lensmesh/caption/v1/caption_pb.js";
import type { Caption, Image, Limits } from "./gen/lensmesh/common/v1/common_pb.js";
import {
  type ClassifyImagesRequestSchema,
  EncoderService,
  type EncodeOptionsSchema,
  type EncodeResult,
  type LabelScore,
} from "./gen/lensmesh/encoder/v1/encoder_pb.js";
import {
  type GetStatusResponse,
  type ImageMatch,
  type IngestedItem,
  type MatchImagesRequestSchema,
  RouterService,
  type SearchResponse,
} from "./gen/lensmesh/router/v1/router_pb.js";
import { SearchService } from "./gen/lensmesh/search/v1/search_pb.js";
import { imageBytes, type ImageInput, imageMessage } from "./images.js";
import { ingestAlong, type Send } from "./ingest/bulk.js";
import { optionsMessage } from "./ingest/stream.js";
import type { IngestItem, IngestManyOptions, IngestOptions, IngestResult } from "./ingest/types.js";
import { Jobs } from "./jobs.js";
import { type QueryInput, searchRequest, type SearchOptions } from "./queries.js";
import type { RetryOptions } from "./retries.js";
import { type Embedding, readVector } from "./vectors.js";

/** How a client reaches the mesh. */
export interface Connection {
  readonly transport: Transport;
  readonly retries: RetryOptions;
  /** Returns the way of items without end. */
  readonly bulk: (stubs: Stubs, options: IngestManyOptions) => Send;
}

/** The contracts' own calls, for all that has no method here. They throw ConnectError: see LensmeshError.from. */
export interface Stubs {
  readonly router: Stub<typeof RouterService>;
  readonly search: Stub<typeof SearchService>;
  readonly encoder: Stub<typeof EncoderService>;
  readonly captioner: Stub<typeof CaptionerService>;
}

/** How well labels fit an image, the best first. */
export type Labels = readonly Pick<LabelScore, "label" | "probability">[];

/** A client of a mesh. All methods throw LensmeshError; where a call has many inputs, a bad one fails alone. */
export class Client {
  readonly services: Stubs;
  readonly jobs: Jobs;
  private told: Promise<Limits> | undefined;

  constructor(private readonly connection: Connection) {
    const { transport, retries } = connection;
    this.services = {
      router: createStub(RouterService, transport),
      search: createStub(SearchService, transport),
      encoder: createStub(EncoderService, transport),
      captioner: createStub(CaptionerService, transport),
    };
    this.jobs = new Jobs(this.services.search, retries);
  }

  /** Return every service of the mesh: address, health, models, limits. */
  status(call?: CallOptions): Promise<GetStatusResponse> {
    return typed(() => this.services.router.getStatus({}, call));
  }

  /** Return the items nearest to a query, or to several that are fused, the best first. */
  search(
    queries: QueryInput | readonly QueryInput[],
    options: SearchOptions = {},
    call?: CallOptions,
  ): Promise<SearchResponse> {
    return typed(async () => {
      const needsLimits = [queries].flat().some((one) => typeof one === "object" && "image" in one);
      const limits = needsLimits ? await this.limits() : undefined;
      return this.services.router.search(await searchRequest(queries, options, limits), call);
    });
  }

  /** Return the items most like a stored one, which is none of them. */
  similar(id: string, options: SearchOptions = {}, call?: CallOptions): Promise<SearchResponse> {
    return this.search({ id }, options, call);
  }

  /** Return a description of each image, in their order. */
  caption(
    images: readonly ImageInput[],
    options: MessageInitShape<typeof CaptionOptionsSchema> = {},
    call?: CallOptions,
  ): Promise<Outcome<Caption>[]> {
    return this.ofImages(images, async (list) => {
      const { results } = await this.services.captioner.captionImages({ images: list, options }, call);
      return results.map((one) => outcome<Caption>(one.outcome));
    });
  }

  /** Return the vector of each text, or of each image, in their order. */
  embed(
    inputs: { readonly texts: readonly string[] } | { readonly images: readonly ImageInput[] },
    options: MessageInitShape<typeof EncodeOptionsSchema> = {},
    call?: CallOptions,
  ): Promise<Outcome<Embedding>[]> {
    const { encoder } = this.services;
    if ("images" in inputs) {
      return this.ofImages(inputs.images, async (images) => {
        const { results } = await encoder.encodeImages({ images, options }, call);
        return results.map(vectorOutcome);
      });
    }
    return typed(async () => {
      const lists = cut(inputs.texts, (text) => 3 * text.length, await this.limits());
      return inBatches(lists, async (texts) => {
        const { results } = await encoder.encodeTexts({ texts, options }, call);
        return results.map(vectorOutcome);
      });
    });
  }

  /** Return how well labels fit each image, in the order of the images; `top` of them, or all. */
  classify(
    images: readonly ImageInput[],
    labels: readonly string[],
    options: Omit<MessageInitShape<typeof ClassifyImagesRequestSchema>, "$typeName" | "images" | "labels"> = {},
    call?: CallOptions,
  ): Promise<Outcome<Labels>[]> {
    return this.ofImages(images, async (list) => {
      const request = { top: labels.length, ...options, images: list, labels: [...labels] };
      const { results } = await this.services.encoder.classifyImages(request, call);
      return results.map((one) => {
        const scores = outcome<{ best: LabelScore[] }>(one.outcome);
        return scores.error === undefined ? { value: scores.value.best } : scores;
      });
    });
  }

  /** Return which entry of a collection each image shows, in their order. */
  match(
    images: readonly ImageInput[],
    options: Omit<MessageInitShape<typeof MatchImagesRequestSchema>, "$typeName" | "images"> = {},
    call?: CallOptions,
  ): Promise<Outcome<ImageMatch>[]> {
    return this.ofImages(images, async (list) => {
      const { results } = await this.services.router.matchImages({ ...options, images: list }, call);
      return results.map((one) => outcome<ImageMatch>(one.outcome));
    });
  }

  /** Make one image findable. Returns when it is durable. */
  ingest(item: IngestItem, options: IngestOptions = {}, call?: CallOptions): Promise<IngestedItem> {
    return typed(async () => {
      const { image, ...rest } = item;
      const message = { ...rest, image: await imageMessage(image, await this.limits()) };
      const answer = await this.services.router.ingest({ options: optionsMessage(options), item: message }, call);
      return answer.item as IngestedItem;
    });
  }

  /**
   * Make any number of images findable. Yields a result for each as it becomes durable or fails for good, in any order.
   * What has no answer when the connection breaks is sent again; nothing is stored twice. Input is read no faster than
   * the mesh takes it. Throws where no answer comes for `patienceMs`.
   */
  ingestMany(
    items: AsyncIterable<IngestItem> | Iterable<IngestItem>,
    options: IngestManyOptions = {},
  ): AsyncGenerator<IngestResult> {
    const send = this.connection.bulk(this.services, options);
    return ingestAlong({ send, limits: (refresh) => this.limits(refresh) }, items, options);
  }

  /** Return what the mesh accepts, as it told when it was first asked. */
  limits(refresh = false): Promise<Limits> {
    if (refresh || this.told === undefined) {
      const asked = this.status().then((status) => status.limits as Limits);
      asked.catch(() => {
        if (this.told === asked) {
          this.told = undefined;
        }
      });
      this.told = asked;
    }
    return this.told;
  }

  /** Make the calls for images as the limits cut them. An image that is empty or too large fails alone. */
  private ofImages<R>(
    inputs: readonly ImageInput[],
    call: (images: Image[]) => Promise<Outcome<R>[]>,
  ): Promise<Outcome<R>[]> {
    return typed(async () => {
      const limits = await this.limits();
      const read = await Promise.all(
        inputs.map((one, index) => imageMessage(one, limits, `images[${index}]`).catch(LensmeshError.from)),
      );
      const good = read.filter((one): one is Image => !(one instanceof LensmeshError));
      const answers = await inBatches(cut(good, imageBytes, limits), call);
      let next = 0;
      return read.map((one) => (one instanceof LensmeshError ? { error: one } : (answers[next++] as Outcome<R>)));
    });
  }
}

function vectorOutcome(result: EncodeResult): Outcome<Embedding> {
  const given = result.outcome;
  return given.case === "embedding" ? { value: readVector(given.value) } : outcome<Embedding>(given);
}

async function typed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw LensmeshError.from(thrown);
  }
}
