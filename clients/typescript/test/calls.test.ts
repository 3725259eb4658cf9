import assert from "node:assert/strict";
import { test } from "node:test";
import { MethodOptions_IdempotencyLevel as Level } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { Code, filters, LensmeshError } from "../src/index.js";
import { DataType } from "../src/gen/lensmesh/common/v1/common_pb.js";
import { retries } from "../src/retries.js";
import { BAD_IMAGE } from "./fake.js";
import { all, file, start, WAYS } from "./support.js";

for (const way of WAYS) {
  test(`${way}: an error carries its code, reason, fields, delay and request id`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.failing = [
      {
        code: Code.InvalidArgument,
        reason: "LIMIT_OUT_OF_RANGE",
        message: "limit is 9",
        field: "limit",
        retryMs: 1500,
      },
    ];
    const error = await client.search("a cat").catch((thrown: unknown) => thrown);
    assert(error instanceof LensmeshError);
    const { code, reason, message, fields, retryDelayMs, metadata, requestId } = error;
    assert.deepEqual(
      { code, reason, message, fields, retryDelayMs, metadata },
      {
        code: Code.InvalidArgument,
        reason: "LIMIT_OUT_OF_RANGE",
        message: "limit is 9",
        fields: [{ field: "limit", description: "wrong" }],
        retryDelayMs: 1500,
        metadata: { limit: "5" },
      },
    );
    assert.match(requestId, /^[0-9a-f]{32}$/);
    assert.equal(requestId, mesh.calls[0]?.requestId);
  });

  test(`${way}: UNAVAILABLE is tried again under the same request id`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.failing = [{ code: Code.Unavailable }, { code: Code.Unavailable, retryMs: 1 }];
    assert.equal((await client.search("a cat")).hits[0]?.item?.id, "cat");
    assert.deepEqual(
      mesh.calls.map((one) => one.method),
      ["Search", "Search", "Search"],
    );
    assert.equal(new Set(mesh.calls.map((one) => one.requestId)).size, 1);
  });

  test(`${way}: tries end, and other codes have one`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.failing = Array.from({ length: 9 }, () => ({ code: Code.Unavailable, reason: "DRAINING" }));
    await assert.rejects(client.search("a cat"), { code: Code.Unavailable, reason: "DRAINING" });
    assert.equal(mesh.calls.length, 4);
    mesh.failing = [{ code: Code.ResourceExhausted }];
    await assert.rejects(client.search("a cat"), { code: Code.ResourceExhausted });
    assert.equal(mesh.calls.length, 5);
  });

  test(`${way}: a wait for the next try ends with the call's time`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.failing = [{ code: Code.Unavailable, retryMs: 900 * 1000 }];
    await assert.rejects(client.search("a cat", {}, { timeoutMs: 200 }), { code: Code.DeadlineExceeded });
    assert.equal(mesh.calls.length, 1);
  });

  test(`${way}: nobody there is UNAVAILABLE`, async (t) => {
    const [mesh, client] = await start(t, way);
    await mesh.close();
    await assert.rejects(client.status(), { name: "LensmeshError", code: Code.Unavailable, reason: "" });
  });

  test(`${way}: a search says what was asked`, async (t) => {
    const [mesh, client] = await start(t, way);
    const { hits } = await client.search(
      [
        "a cat",
        "a dog",
        { image: new Blob([file("x")]), weight: 0.5, name: "looks" },
        { vector: [1, 0], spaceId: "vs1-x" },
      ],
      {
        collection: "animals",
        limit: 3,
        filter: filters.all(
          filters.equals("animal", "cat"),
          filters.range("year", { atLeast: 2020 }),
          filters.not(filters.exists("deleted")),
          filters.oneOf("size", [1, 2]),
        ),
        groupBy: { fields: ["animal"] },
        diversity: 0.2,
        fusion: { method: "weighted" },
        minRelevance: 0.1,
      },
    );
    assert.deepEqual(hits[0]?.item?.metadata, { animal: "cat" });
    const [asked] = mesh.searched;
    assert.deepEqual(
      asked?.queries.map(({ query, weight, name }) => [query.case, weight, name]),
      [
        ["text", 0, "text"],
        ["text", 0, "text 2"],
        ["image", 0.5, "looks"],
        ["embedding", 0, "vector"],
      ],
    );
    const kinds = asked?.filter?.kind.case === "all" ? asked.filter.kind.value.filters.map((one) => one.kind.case) : [];
    assert.deepEqual(kinds, ["condition", "condition", "not", "condition"]);
    assert.equal(asked?.diversity?.strength, Math.fround(0.2));
    await client.similar("cat", { limit: 2 });
    assert.deepEqual(mesh.searched[1]?.queries[0]?.query, { case: "itemId", value: "cat" });
  });

  test(`${way}: a query with two things is refused before it is sent`, async (t) => {
    const [mesh, client] = await start(t, way);
    await assert.rejects(client.search({ text: "a", id: "b" }), {
      reason: "QUERY_INVALID",
      code: Code.InvalidArgument,
    });
    await assert.rejects(client.search({}), { reason: "QUERY_INVALID" });
    assert.equal(mesh.searched.length, 0);
  });

  test(`${way}: lists are cut by the limits, in order, and bad images fail alone`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.limits = { ...mesh.limits, maxItems: 2, maxImageBytes: 10n };
    const images = [
      file("one"),
      BAD_IMAGE,
      file("much too large"),
      new Uint8Array(),
      file("five"),
      async () => file("six"),
    ];
    const captions = await client.caption(images);
    assert.deepEqual(
      captions.map((one) => (one.error === undefined ? one.value.text : one.error.reason)),
      ["a file of one", "IMAGE_UNDECODABLE", "IMAGE_TOO_LARGE", "IMAGE_EMPTY", "a file of five", "a file of six"],
    );
    assert.equal(mesh.calls.filter((one) => one.method === "CaptionImages").length, 2);
    assert.equal(captions[2]?.error?.fields[0]?.field, "images[2]");
    const matched = await client.match(images.slice(0, 2), { collection: "animals" });
    assert.deepEqual(
      matched.map((one) => one.error?.reason ?? "match"),
      ["match", "IMAGE_UNDECODABLE"],
    );
    const [labels] = await client.classify([file("one")], ["cat", "dog"]);
    assert.deepEqual(labels?.error === undefined && labels?.value.map((one) => [one.label, one.probability]), [
      ["cat", 0.5],
      ["dog", 0.5],
    ]);
  });

  test(`${way}: lists are cut by bytes`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.limits = { ...mesh.limits, maxMessageBytes: 264_144n };
    const images = Array.from({ length: 4 }, (_, index) => new Uint8Array(90_000).fill(65 + index));
    const captions = await client.caption(images);
    assert.deepEqual(
      captions.map((one) => one.error === undefined && one.value.text.at(-1)),
      ["A", "B", "C", "D"],
    );
    assert.equal(mesh.calls.filter((one) => one.method === "CaptionImages").length, 2);
  });

  test(`${way}: vectors are numbers in both forms`, async (t) => {
    const [, client] = await start(t, way);
    const [plain] = await client.embed({ texts: ["abc"] });
    assert.deepEqual(plain?.error === undefined && plain?.value, {
      spaceId: "vs1-fake",
      vector: new Float32Array([3, -1]),
    });
    const [short] = await client.embed({ texts: ["abc"] }, { dataType: DataType.FLOAT16 });
    const third = 0x155 / 1024 / 4 + 0.25;
    assert.deepEqual(short?.error === undefined && short?.value.vector, new Float32Array([1, -2, third]));
  });

  test(`${way}: a job is watched over broken streams to its end`, async (t) => {
    const [mesh, client] = await start(t, way);
    mesh.watchBreaksAfter = 2;
    const seen = await all(client.jobs.watch("job"));
    assert.deepEqual(
      seen.map((one) => Number(one.doneCount)),
      [1, 2, 1, 2, 3],
    );
    assert.equal((await client.jobs.wait("job")).id, "job");
    assert.deepEqual(
      (await all(client.jobs.list())).map((one) => one.id),
      ["one", "two"],
    );
  });
}

test("only what the contract allows twice is made again", async () => {
  const unavailable = { code: Code.Unavailable };
  for (const [idempotency, stream, made] of [
    [Level.IDEMPOTENCY_UNKNOWN, false, 1],
    [Level.IDEMPOTENT, true, 1],
    [Level.IDEMPOTENT, false, 3],
    [Level.NO_SIDE_EFFECTS, false, 3],
  ] as const) {
    let calls = 0;
    const next = async () => {
      calls += 1;
      throw new ConnectError("", Code.Unavailable);
    };
    const request = { method: { idempotency }, stream, header: new Headers(), signal: new AbortController().signal };
    const call = retries({ attempts: 3, firstDelayMs: 1, longestDelayMs: 1 })(next);
    await assert.rejects(call(request as unknown as Parameters<typeof call>[0]), unavailable);
    assert.equal(calls, made);
  }
});
