import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { collections } from "../facets";
import { count, duration, percent, time, words } from "../format";
import { cancelJob, isRunning, jobs, jobsError, startJob, useJobs } from "../jobs";
import type { Job } from "../types";
import { Icon } from "./icons";

const KINDS: Record<string, string> = {
  duplicates: "Find images that look the same",
  calibrate: "Measure relevance anew",
  rebuild: "Rebuild the indexes",
};

export function JobsView(): JSX.Element {
  useJobs();
  const list = jobs.value;
  return (
    <div class="page">
      <h1>Jobs</h1>
      <Start />
      {jobsError.value && <p class="note" role="alert">{jobsError.value}</p>}
      {list === null && !jobsError.value && <p class="muted" role="status">Loading…</p>}
      {list?.length === 0 && (
        <div class="state"><Icon name="check" size={32} /><h2>No jobs</h2><p>Work that takes longer than a call is shown here while it runs.</p></div>
      )}
      <ul class="jobs" aria-label="Jobs">{list?.map((job) => <JobRow key={job.id} job={job} />)}</ul>
    </div>
  );
}

function Start(): JSX.Element {
  const [kind, setKind] = useState("duplicates");
  const [collection, setCollection] = useState("");
  return (
    <form class="row start" onSubmit={(event) => {
      event.preventDefault();
      void startJob(kind, collection);
    }}>
      <label class="field inline"><span>Start</span>
        <select aria-label="Kind of job" value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
          {Object.entries(KINDS).map(([value, text]) => <option key={value} value={value}>{text}</option>)}
        </select>
      </label>
      <label class="field inline"><span>in</span>
        <select aria-label="Collection" value={collection} onChange={(event) => setCollection(event.currentTarget.value)}>
          <option value="">the default collection</option>
          {collections.value.map((each) => <option key={each.name} value={each.name}>{each.name}</option>)}
        </select>
      </label>
      <button type="submit" class="primary">Start</button>
    </form>
  );
}

function JobRow({ job }: { job: Job }): JSX.Element {
  const state = words(job.state ?? "", "job_state");
  const done = Number(job.done_count) || 0;
  const total = Number(job.total_count) || 0;
  const running = isRunning(job);
  const left = job.time_left_ms ? `about ${duration(Number(job.time_left_ms))} left` : "";
  const rate = job.units_per_second ? `${count(Math.round(job.units_per_second))}/s` : "";
  return (
    <li class={`job ${state}`}>
      <div class="bar-head">
        <h2>{words(job.kind ?? "job", "job_kind")} <span class="muted">{job.collection}</span></h2>
        <span class={`tag ${state}`}>{job.cancel_requested && running ? "ending" : state}</span>
        {running && !job.cancel_requested && <button type="button" class="quiet small" aria-label={`Cancel ${job.id}`} onClick={() => void cancelJob(job.id)}>Cancel</button>}
      </div>
      {running && <progress aria-label={`Progress of ${job.id}`} max={total || 1} {...(total ? { value: Math.min(done, total) } : {})} />}
      <p>
        {total ? `${count(done)} of ${count(total)} (${percent(Math.min(1, done / total))})` : done ? count(done) : ""} {[rate, left].filter(Boolean).join(" · ")}
      </p>
      {job.message && <p class="muted breakable">{job.message}</p>}
      {job.error?.message && <p class="note breakable">{job.error.message}</p>}
      <p class="muted small"><span class="breakable">{job.id}</span> {job.created_at && `· ${time(job.created_at)}`}</p>
    </li>
  );
}
