import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Code,
  type IngestItem,
  type IngestManyOptions,
  type IngestProgress,
  type LensmeshError,
} from "../src/index.js";
import { BAD_IMAGE } from "./fake.js";
import { all, file, start, WAYS } from "./support.js";

function items(count: number): IngestItem[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `i${index}`,
    ref: `r${index}`,
    image: file(`file ${index}`),
  }));
}

const indexes = (count: number) => Array.from({ length: count }, (_, index) => index);

for (const way of WAYS) {
  test(`${way}: each item has one result, and progress counts them`, async (t) => {
    const [mesh, client] = await start(t, way);
    const told: IngestProgress[] = [];
    const given = [...items(150), { image: BAD_IMAGE, id: "bad" }, { image: new Uint8Array() }];
    const results = await all(
      client.ingestMany(given, { collection: "animals", captions: "none", onProgress: (one) => told.push(one) }),
    );
    assert.deepEqual(
      results.map((one) => one.index).sort((one, other) => one - other),
      indexes(152),
    );
    const first = results.find((one) => one.index === 0);
    assert.deepEqual(
      [first?.ref, first?.id, first?.outcome, first?.caption],
      ["r0", "i0", "created", "a file of file 0"],
    );
    assert.deepEqual(results.find((one) => one.index === 150)?.error?.reason, "IMAGE_UNDECODABLE");
    assert.deepEqual(results.find((one) => one.index === 151)?.error?.reason, "IMAGE_EMPTY");
    assert.deepEqual(told.at(-1), {
      read: 152,
      done: 152,
      created: 150,
      updated: 0,
      unchanged: 0,
      skipped: 0,
      failed: 2,
    });
    assert.equal(mesh.options[0]?.collection, "animals");
    assert.equal(mesh.received.length, 151);
  });

  for (const hard of [false, true]) {
    test(`${way}: ${hard ? "a connection" : "a stream"} that breaks loses no item`, async (t) => {
      const [mesh, client] = await start(t, way);
      mesh.breaksAfter = [7, 0, 5];
      mesh.breaksHard = hard;
      const resumed: [LensmeshError, number][] = [];
      const onResume = (error: LensmeshError, again: number) => resumed.push([error, again]);
      const results = await all(client.ingestMany(items(100), { onResume }));
      assert.equal(results.length, 100);
      assert(results.every((one) => one.error === undefined));
      assert.equal(new Set(results.map((one) => one.index)).size, 100);
      assert.equal(mesh.stored.size, 100);
      assert.equal(resumed.length, 3);
      assert(resumed.every(([, again]) => again > 0));
    });
  }

  test(`${way}: an item that may succeed later is sent again, and no more often than told`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.overloaded = new Map([
      ["i1", 2],
      ["i2", 99],
    ]);
    const results = await all(client.ingestMany(items(4), { attempts: 3 }));
    const outcomes = Object.fromEntries(results.map((one) => [one.id || "failed", one.error?.reason ?? one.outcome]));
    assert.deepEqual(outcomes, { i0: "created", i1: "created", i3: "created", failed: "OVERLOADED" });
    assert.equal(mesh.received.filter((one) => one === "i2").length, 3);
  });

  test(`${way}: an item that ends each stream is given up alone`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.poison = "i3";
    const results = await all(client.ingestMany(items(6), { windowItems: 4 }));
    const failed = results.filter((one) => one.error !== undefined);
    assert.deepEqual(
      failed.map((one) => one.index),
      [3],
    );
    assert.match(failed[0]?.error?.message ?? "", /given up/);
    assert.equal(mesh.stored.size, 5);
  });

  test(`${way}: a refusal ends it at once`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.failing = [{ code: Code.InvalidArgument, reason: "OPTION_INVALID", message: "no" }];
    await assert.rejects(all(client.ingestMany(items(3))), { reason: "OPTION_INVALID" });
    assert.equal(mesh.streams, 1);
  });

  test(`${way}: without an answer, patience ends`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.failing = Array.from({ length: 1000 }, () => ({ code: Code.Unavailable, reason: "DRAINING" }));
    await assert.rejects(all(client.ingestMany(items(3), { patienceMs: 300 })), { reason: "DRAINING" });
    assert(mesh.streams > 1);
  });

  test(`${way}: the input is read no further than the window`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.answers = false;
    let read = 0;
    function* endless(): Generator<IngestItem> {
      for (;;) yield { image: file(`file ${read++}`) };
    }
    const stop = new AbortController();
    const options: IngestManyOptions = { windowItems: 8, signal: stop.signal };
    const ingesting = assert.rejects(all(client.ingestMany(endless(), options)), { code: Code.Canceled });
    while (mesh.received.length < (way === "grpc" ? 8 : 1)) await new Promise((go) => setTimeout(go, 5));
    stop.abort();
    await ingesting;
    assert(read <= 9, `${read} items were read`);
  });

  test(`${way}: an input that fails does so after the answers`, async (t) => {
    const [, client] = await start(t, way);
    async function* failing(): AsyncGenerator<IngestItem> {
      yield* items(2);
      throw new RangeError("no more");
    }
    const seen: number[] = [];
    const ingesting = (async () => {
      for await (const { index } of client.ingestMany(failing())) seen.push(index);
    })();
    await assert.rejects(ingesting, RangeError);
    assert.deepEqual(seen, [0, 1]);
  });

  test(`${way}: whoever leaves ends the stream`, async (t) => {
    const [mesh, client] = await start(t, way);
    let closed = false;
    async function* endless(): AsyncGenerator<IngestItem> {
      try {
        for (let index = 0; ; index++) yield { image: file(`file ${index}`) };
      } finally {
        closed = true;
      }
    }
    for await (const { outcome } of client.ingestMany(endless(), { windowItems: 4 })) {
      assert.equal(outcome, "created");
      break;
    }
    while (!closed) await new Promise((go) => setTimeout(go, 5));
    assert(mesh.received.length < 20);
  });

  test(`${way}: two items of one id are stored in their order`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.overloaded = new Map([["same", 1]]);
    const twice = [
      { id: "same", image: file("old") },
      { id: "same", image: file("new") },
    ];
    const results = await all(client.ingestMany(twice));
    assert.deepEqual(
      results.map((one) => [one.index, one.outcome]),
      [
        [0, "created"],
        [1, "unchanged"],
      ],
    );
    const last = mesh.stored.get("same")?.image?.source.value;
    assert.deepEqual(Buffer.from(last as Uint8Array).toString(), "new");
  });
}

test("one image by a call of its own", async (t) => {
  const [mesh, client] = await start(t, "http");
  const item = await client.ingest({ id: "cat", image: file("cat"), metadata: { a: 1 } }, { nearDuplicates: "skip" });
  assert.equal(item.id, "cat");
  assert.deepEqual(mesh.stored.get("cat")?.metadata, { a: 1 });
});

test("HTTP carries the bytes of files as they are, and addresses as lines", async (t) => {
  const [mesh, client] = await start(t, "http");
  const noText = new Uint8Array([0, 13, 10, 45, 45, 255]);
  await all(client.ingestMany([{ id: "a", image: noText, metadata: { name: "é" }, imageUri: "x", caption: "said" }]));
  const stored = mesh.stored.get("a") as unknown as Record<string, unknown>;
  const { metadata, image_uri, caption } = stored;
  assert.deepEqual([metadata, image_uri, caption], [{ name: "é" }, "x", "said"]);
  assert.deepEqual(mesh.stored.get("a")?.image?.source.value, noText);
  await all(client.ingestMany([...items(1), { id: "b", image: new URL("https://images.example/b.jpg") }]));
  assert.equal(mesh.stored.get("b")?.image?.source.value, "https://images.example/b.jpg");
  assert.deepEqual(Buffer.from(mesh.stored.get("i0")?.image?.source.value as Uint8Array).toString(), "file 0");
  assert.deepEqual(mesh.forms, ["multipart/form-data", "application/x-ndjson"]);
});

test("options that HTTP does not carry are refused", async (t) => {
  const [, client] = await start(t, "http");
  assert.throws(() => client.ingestMany(items(1), { more: { spaces: ["x"] } }), { reason: "OPTION_INVALID" });
});
