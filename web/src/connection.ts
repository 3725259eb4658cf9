import { computed, signal } from "@preact/signals";
import type { Service, Status } from "./types";

/** Whether the mesh answers, and what it says of itself. Asked again by itself, sooner while it is away. */

const HEALTHY_MS = 15_000;
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 15_000;

export const status = signal<Status | null>(null);
export const trouble = signal<string | null>(null);
export const retryAt = signal(0);
/** Counts how often the mesh came back: who waits for it looks at this. */
export const comebacks = signal(0);

export const isServing = (service: Service): boolean => (service.health ?? "").replace(/^HEALTH_/, "").toUpperCase() === "SERVING";
export const unhealthy = computed(() => (status.value?.services ?? []).filter((each) => !isServing(each)));

let delay = FIRST_RETRY_MS;
let timer: number | undefined;

/** Note that a request failed because nothing answers. */
export function connectionFailed(message: string): void {
  if (trouble.value !== null) return;
  trouble.value = message;
  delay = FIRST_RETRY_MS;
  plan(delay);
}

/** Note that an answer came. */
export function connectionWorks(): void {
  if (trouble.value === null) return;
  trouble.value = null;
  delay = FIRST_RETRY_MS;
  comebacks.value += 1;
}

/** Ask for the status now, and again later. */
export async function look(): Promise<void> {
  window.clearTimeout(timer);
  const gone = new AbortController();
  const limit = window.setTimeout(() => gone.abort(), 10_000);
  try {
    const response = await fetch("/v1/status", { signal: gone.signal });
    if (!response.ok) {
      const told = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
      throw new Error(told?.error?.message || `The server answered with status ${response.status}.`);
    }
    status.value = (await response.json()) as Status;
    connectionWorks();
    plan(HEALTHY_MS);
  } catch (error) {
    const unreachable = error instanceof TypeError || (error as Error).name === "AbortError";
    const message = unreachable ? "The server cannot be reached." : (error as Error).message;
    delay = trouble.value === null ? FIRST_RETRY_MS : Math.min(delay * 2, LONGEST_RETRY_MS);
    trouble.value = message;
    plan(delay);
  } finally {
    window.clearTimeout(limit);
  }
}

function plan(milliseconds: number): void {
  window.clearTimeout(timer);
  retryAt.value = Date.now() + milliseconds;
  timer = window.setTimeout(() => {
    // A page that nobody sees asks no more until it is looked at.
    if (document.hidden) return;
    void look();
  }, milliseconds);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && Date.now() >= retryAt.value) void look();
});
window.addEventListener("online", () => void look());
