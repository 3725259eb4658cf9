import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ApiError, ask } from "./api";
import type { Job } from "./types";

/** Jobs of the store, looked at while somebody looks at them. */

const AGAIN_MS = 4_000;
// A browser opens six connections to a server at most: events hold one each, all else needs some too.
const WATCHED = 2;

export const jobs = signal<Job[] | null>(null);
export const jobsError = signal("");

/** Tell whether a job has not ended. */
export const isRunning = (job: Job): boolean => /PENDING|RUNNING/i.test(job.state ?? "");

const watchers = new Map<string, EventSource>();
let open = false;

async function refresh(): Promise<void> {
  try {
    const { value } = await ask<{ jobs: Job[] }>("/v1/jobs");
    jobs.value = value.jobs ?? [];
    jobsError.value = "";
    if (open) watch();
  } catch (error) {
    jobsError.value = error instanceof ApiError ? error.message : "The jobs cannot be read.";
  }
}

function watch(): void {
  const running = (jobs.value ?? []).filter(isRunning).slice(0, WATCHED).map((job) => job.id);
  for (const id of watchers.keys()) if (!running.includes(id)) unwatch(id);
  for (const id of running) {
    if (watchers.has(id)) continue;
    const source = new EventSource(`/v1/jobs/${encodeURIComponent(id)}/events`);
    watchers.set(id, source);
    const take = (event: MessageEvent<string>) => {
      const told = JSON.parse(event.data) as Job & { job?: Job };
      const job = told.job ?? told;
      if (!job.id) return;
      jobs.value = (jobs.value ?? []).map((each) => (each.id === job.id ? { ...each, ...job } : each));
      if (!isRunning(job)) unwatch(job.id);
    };
    source.onmessage = take;
    source.addEventListener("end", take);
    // The list is read again anyway, and watches anew what still runs.
    source.onerror = () => unwatch(id);
  }
}

function unwatch(id: string): void {
  watchers.get(id)?.close();
  watchers.delete(id);
}

/** Keep the list of jobs as it is, for as long as the component is shown. */
export function useJobs(): void {
  useEffect(() => {
    open = true;
    void refresh();
    const timer = window.setInterval(() => document.hidden || void refresh(), AGAIN_MS);
    return () => {
      open = false;
      window.clearInterval(timer);
      for (const id of [...watchers.keys()]) unwatch(id);
    };
  }, []);
}

/** Ask a job to end. */
export async function cancelJob(id: string): Promise<void> {
  await change(`/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** Start a job of this kind. */
export async function startJob(kind: string, collection: string): Promise<void> {
  const body = JSON.stringify({ kind, ...(collection && { collection }) });
  await change("/v1/jobs", { method: "POST", body, headers: { "content-type": "application/json" } });
}

async function change(path: string, init: RequestInit): Promise<void> {
  try {
    await ask<unknown>(path, init, false);
  } catch (error) {
    if (error instanceof ApiError && error.status !== 0) {
      jobsError.value = error.message;
      return;
    }
  }
  await refresh();
}
