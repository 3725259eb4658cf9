/** Searches, as people write them and as the contract has them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { LensmeshError } from "./errors.js";
import { EmbeddingSchema, type Limits } from "./gen/lensmesh/common/v1/common_pb.js";
import {
  type Query,
  QuerySchema,
  type SearchRequest,
  SearchRequestSchema,
} from "./gen/lensmesh/router/v1/router_pb.js";
import { type FilterSchema, FusionMethod } from "./gen/lensmesh/search/v1/search_pb.js";
import { type ImageInput, imageMessage } from "./images.js";

/** One thing to be near to: exactly one of `text`, `words`, `image`, `id` and `vector`. A string is a `text`. */
export interface QueryParts {
  /** What the image shows, in words. */
  readonly text?: string;
  /** Words of captions, or of the fields that `textFields` names. */
  readonly words?: string;
  readonly image?: ImageInput;
  /** A stored item, which is no hit itself. */
  readonly id?: string;
  /** A vector of one's own, of the space `spaceId`. */
  readonly vector?: Float32Array | readonly number[];
  readonly spaceId?: string;
  /** Echoed in each hit's legs; the kind ("text", "text 2") where several queries have none. */
  readonly name?: string;
  /** 1 where it is not given; below 0 pushes away. */
  readonly weight?: number;
  /** The named space of the collection. */
  readonly space?: string;
  /** Compares `image` by its perceptual hash: finds copies only. */
  readonly byHash?: boolean;
  readonly textFields?: readonly string[];
}

export type QueryInput = string | QueryParts;

export interface SearchOptions {
  readonly collection?: string;
  readonly limit?: number;
  readonly offset?: number;
  /** See `filters`. */
  readonly filter?: MessageInitShape<typeof FilterSchema>;
  readonly minScore?: number;
  /** 0 to 1. */
  readonly minRelevance?: number;
  readonly groupBy?: { readonly fields: readonly string[]; readonly size?: number };
  /** 0 to 1: how much hits shall differ from one another. */
  readonly diversity?: number;
  readonly fusion?: { readonly method: "rrf" | "weighted"; readonly k?: number };
  /** Leaves out queries that cannot be answered just now. */
  readonly partial?: boolean;
}

/** Return the request of one search. Throws LensmeshError where an image is empty or too large. */
export async function searchRequest(
  queries: QueryInput | readonly QueryInput[],
  options: SearchOptions,
  limits?: Limits,
): Promise<SearchRequest> {
  const list: readonly QueryInput[] = Array.isArray(queries) ? queries : [queries as QueryInput];
  const { collection, limit, offset, filter, minScore, minRelevance, groupBy, diversity, fusion, partial } = options;
  return create(SearchRequestSchema, {
    queries: named(await Promise.all(list.map((one, index) => query(one, `queries[${index}]`, limits)))),
    ...(collection !== undefined && { collection }),
    ...(limit !== undefined && { limit }),
    ...(offset !== undefined && { offset }),
    ...(filter !== undefined && { filter }),
    ...(minScore !== undefined && { minScore }),
    ...(minRelevance !== undefined && { minRelevance }),
    ...(groupBy && { groupBy: { fields: [...groupBy.fields], size: groupBy.size ?? 0 } }),
    ...(diversity !== undefined && { diversity: { strength: diversity } }),
    ...(fusion && { fusion: { method: METHODS[fusion.method], rrfK: fusion.k ?? 0 } }),
    ...(partial !== undefined && { partial }),
  });
}

const METHODS = { rrf: FusionMethod.RRF, weighted: FusionMethod.WEIGHTED };

const KINDS: Record<string, string> = { captionText: "words", itemId: "id", embedding: "vector" };

/** Give each of several queries that has no name the name of its kind: "text", "text 2". */
function named(queries: Query[]): Query[] {
  const taken = new Set(queries.map(({ name }) => name));
  for (const one of queries.length > 1 ? queries : []) {
    const kind = KINDS[one.query.case ?? ""] ?? one.query.case ?? "";
    for (let number = 1; one.name === ""; number++) {
      const name = number === 1 ? kind : `${kind} ${number}`;
      one.name = taken.has(name) ? "" : name;
    }
    taken.add(one.name);
  }
  return queries;
}

async function query(input: QueryInput, field: string, limits?: Limits): Promise<Query> {
  const parts = typeof input === "string" ? { text: input } : input;
  return create(QuerySchema, {
    name: parts.name ?? "",
    space: parts.space ?? "",
    weight: parts.weight ?? 0,
    byHash: parts.byHash ?? false,
    textFields: [...(parts.textFields ?? [])],
    query: await asked(parts, field, limits),
  });
}

async function asked(parts: QueryParts, field: string, limits?: Limits): Promise<Query["query"]> {
  const found: Query["query"][] = [];
  if (parts.text !== undefined) found.push({ case: "text", value: parts.text });
  if (parts.words !== undefined) found.push({ case: "captionText", value: parts.words });
  if (parts.id !== undefined) found.push({ case: "itemId", value: parts.id });
  if (parts.image !== undefined) {
    found.push({ case: "image", value: await imageMessage(parts.image, limits, `${field}.image`) });
  }
  if (parts.vector !== undefined) {
    const floats = [...parts.vector];
    const embedding = create(EmbeddingSchema, { spaceId: parts.spaceId ?? "", dimension: floats.length, floats });
    found.push({ case: "embedding", value: embedding });
  }
  const [only, ...others] = found;
  if (only === undefined || others.length > 0) {
    const description = `${field} asks for ${found.length} things: set one of text, words, image, id and vector`;
    const fields = [{ field, description }];
    throw new LensmeshError(description, { code: Code.InvalidArgument, reason: "QUERY_INVALID", fields });
  }
  return only;
}
