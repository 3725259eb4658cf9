/** What tests share: both clients of one fake mesh. */
import type { TestContext } from "node:test";
import type { Client } from "../src/index.js";
import { createClient } from "../src/index.js";
import { createNodeClient } from "../src/node.js";
import { FakeMesh } from "./fake.js";

export const WAYS = ["grpc", "http"] as const;
export type Way = (typeof WAYS)[number];

/** Start a fake mesh and return it with a client that comes to it by one way. */
export async function start(test: TestContext, way: Way): Promise<[FakeMesh, Client]> {
  const mesh = await FakeMesh.start(test);
  const retries = { firstDelayMs: 1 };
  if (way === "http") {
    return [mesh, createClient({ baseUrl: `${mesh.http}/`, retries })];
  }
  const client = createNodeClient({ target: mesh.grpc, retries });
  test.after(() => client.close());
  return [mesh, client];
}

/** Return the bytes of a text, as a file. */
export function file(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Return all that a generator yields. */
export async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of from) found.push(one);
  return found;
}
