import { signal } from "@preact/signals";

/** The image that was looked at last: the grid moves the focus there once the lightbox is closed. */
export const activeImage = signal<string | null>(null);
