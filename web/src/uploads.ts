/** Images that somebody searches by. They stay in this tab: an address names one by a word that only this tab knows. */

const KEPT = 8;
const uploads = new Map<string, { file: File; url: string }>();
let count = 0;

/** Keep an image and return its name. */
export function keepUpload(file: File): string {
  const name = `${Date.now().toString(36)}${(count += 1)}`;
  uploads.set(name, { file, url: URL.createObjectURL(file) });
  const [oldest] = uploads.keys();
  if (uploads.size > KEPT && oldest) {
    URL.revokeObjectURL(uploads.get(oldest)?.url ?? "");
    uploads.delete(oldest);
  }
  return name;
}

/** Return the image of this name, if this tab has it. */
export const uploadOf = (name: string): File | undefined => uploads.get(name)?.file;

/** Return an address of the image, for this tab. */
export const uploadUrl = (name: string): string | undefined => uploads.get(name)?.url;
