/** Calls to a real mesh: LENSMESH_TARGET is the router, LENSMESH_HTTP the front door, LENSMESH_IMAGES a folder. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { JobState } from "../../src/gen/lensmesh/search/v1/search_pb.js";
import { type Client, Code, createClient, createNodeClient, filters, LensmeshError } from "../../src/node.js";
import type { IngestItem } from "../../src/node.js";

const folder = process.env["LENSMESH_IMAGES"] ?? "";
const WAYS = {
  grpc: (t: TestContext) => {
    const client = createNodeClient({ target: process.env["LENSMESH_TARGET"] ?? "" });
    t.after(() => client.close());
    return client;
  },
  http: () => createClient({ baseUrl: process.env["LENSMESH_HTTP"] ?? "" }),
} satisfies Record<string, (t: TestContext) => Client>;

async function doorIngests(): Promise<boolean> {
  return (await fetch(`${process.env["LENSMESH_HTTP"]}/v1/ingest`, { method: "POST" })).status !== 404;
}

const nothing = (): never => assert.fail("it did not fail");

async function images(): Promise<IngestItem[]> {
  const names = (await readdir(folder)).sort();
  return names.map((name, index) => ({
    id: name,
    metadata: { number: index },
    image: () => readFile(join(folder, name)),
  }));
}

for (const [way, connect] of Object.entries(WAYS)) {
  test(`${way}: images are ingested, found, described and watched`, async (t) => {
    const client = connect(t);
    const collection = `live-${way}-${process.pid}`;
    const items = await images();
    const first = items[0] as IngestItem;
    const bytes = (first.image as () => Promise<Uint8Array>)();

    assert((await client.status()).services.length >= 3);
    const stored = await client.ingest({ ...first, image: await bytes }, { collection });
    assert.equal(stored.id, first.id);
    assert(stored.caption?.text);

    const outcomes = new Map<string, number>();
    const given = [...items, { id: "none", image: new TextEncoder().encode("no image") }];
    if (way === "http" && !(await doorIngests())) {
      t.diagnostic("the front door has no /v1/ingest");
      for (const one of items.slice(1)) await client.ingest(one, { collection });
      given.length = 0;
      outcomes.set("unchanged", 1).set("created", items.length - 1).set("IMAGE_UNDECODABLE", 1);
    }
    for await (const { outcome, error } of client.ingestMany(given, { collection })) {
      const key = error?.reason ?? outcome;
      outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
    }
    const expected = { unchanged: 1, created: items.length - 1, IMAGE_UNDECODABLE: 1 };
    assert.deepEqual(Object.fromEntries(outcomes), expected);

    const { hits } = await client.search({ image: await bytes }, { collection, limit: 2 });
    assert.equal(hits[0]?.item?.id, first.id);
    assert.deepEqual(hits[0]?.item?.metadata, { number: 0 });
    const filter = filters.range("number", { atLeast: 1 });
    const filtered = await client.search(["a shape", { words: "a" }], { collection, filter });
    assert(filtered.hits.every(({ item }) => item?.id !== first.id));
    const similar = await client.similar(first.id as string, { collection, limit: 50 });
    assert.equal(similar.hits.length, items.length - 1);

    const [caption, bad] = await client.caption([await bytes, new Uint8Array([1])]);
    assert(caption?.error === undefined && caption?.value.text);
    assert.equal(bad?.error?.code, Code.InvalidArgument);
    const [vector] = await client.embed({ images: [await bytes] });
    assert(vector && vector.error === undefined);
    const own = { vector: vector.value.vector, spaceId: vector.value.spaceId };
    assert.equal((await client.search(own, { collection, limit: 1 })).hits[0]?.item?.id, first.id);
    const [labels] = await client.classify([await bytes], ["a circle", "a square"]);
    assert(labels && labels.error === undefined);
    assert.equal(labels.value.length, 2);
    const [match] = await client.match([await bytes], { collection });
    assert(match && match.error === undefined);
    assert.equal(match.value.best?.item?.id, first.id);

    const job = await client.jobs.findDuplicates({ collection, jobId: randomUUID() });
    assert.equal((await client.jobs.wait(job.id)).state, JobState.SUCCEEDED);
    for await (const one of client.jobs.list({ collection })) assert.equal(one.id, job.id);
    const refused = await client.search("", { collection }).then(nothing, LensmeshError.from);
    assert.deepEqual([refused.code, refused.fields[0]?.field], [Code.InvalidArgument, "queries[0].text"]);
    await assert.rejects(client.jobs.get("no-such"), { reason: "JOB_NOT_FOUND", code: Code.NotFound });
  });

  test(`${way}: errors of the mesh keep their reason, fields and request id`, async (t) => {
    const error = await connect(t).search("a cat", { collection: "no-such" }).then(nothing, LensmeshError.from);
    assert.equal(error.reason, "COLLECTION_NOT_FOUND");
    assert.match(error.requestId, /^[0-9a-f]{32}$/);
    await assert.rejects(connect(t).search("a cat", {}, { timeoutMs: 1 }), { code: Code.DeadlineExceeded });
  });
}
