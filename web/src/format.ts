const NUMBER = new Intl.NumberFormat("en");

/** Return a count for people; counts of 64 bits come as text. */
export const count = (value: unknown): string => NUMBER.format(Number(value) || 0);

/** Return a share of 1 as per cent. */
export const percent = (share: number): string => `${Math.round(share * 100)}%`;

/** Return a time for people, or the text as it is where it is none. */
export function time(text: string): string {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? text : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Return about how long something lasts. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** Return a value of metadata as text. */
export function shown(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

/** Return a constant of the contracts as words: JOB_STATE_RUNNING becomes running. */
export const words = (constant: string, prefix = ""): string =>
  constant.toLowerCase().replace(new RegExp(`^${prefix}_`), "").replaceAll("_", " ");

/** Return what an image is called where its caption is missing. */
export const nameOf = (image: { caption?: string | null; id: string }): string => image.caption?.trim() || image.id;

/** Return an address of the same server only: what a stranger names elsewhere is never asked for. */
export const ownAddress = (address: string | null | undefined): string | null => (address && /^\/v1\/[^\\]*$/.test(address) ? address : null);
