/** Images of requests. */
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { LensmeshError } from "./errors.js";
import { type Image, ImageSchema, type Limits } from "./gen/lensmesh/common/v1/common_pb.js";

/**
 * One image: the bytes of its file, a file of a page's input, an address that the mesh fetches (where it is set to), or
 * a function that reads the bytes when their turn comes.
 */
export type ImageInput = Uint8Array | Blob | URL | (() => Promise<Uint8Array | Blob>);

/** Return the message of an image. Throws LensmeshError where it is empty, or larger than the mesh accepts. */
export async function imageMessage(input: ImageInput, limits?: Limits, field = "image"): Promise<Image> {
  const given = typeof input === "function" ? await input() : input;
  if (given instanceof URL) {
    return create(ImageSchema, { source: { case: "uri", value: given.href } });
  }
  const most = Number(limits?.maxImageBytes ?? 0);
  const size = given instanceof Uint8Array ? given.byteLength : given.size;
  if (size === 0) {
    throw refused("IMAGE_EMPTY", field, "the image has no bytes: send the file as it is");
  }
  if (most && size > most) {
    throw refused("IMAGE_TOO_LARGE", field, `the image has ${size} bytes, at most ${most} are accepted: scale it down`);
  }
  const content = given instanceof Uint8Array ? given : new Uint8Array(await given.arrayBuffer());
  return create(ImageSchema, { source: { case: "content", value: content } });
}

/** Return the bytes that an image takes in a message. */
export function imageBytes(image: Image | undefined): number {
  const source = image?.source;
  return source?.case === "content" ? source.value.byteLength : (source?.value?.length ?? 0);
}

function refused(reason: "IMAGE_EMPTY" | "IMAGE_TOO_LARGE", field: string, description: string): LensmeshError {
  return new LensmeshError(description, { code: Code.InvalidArgument, reason, fields: [{ field, description }] });
}
