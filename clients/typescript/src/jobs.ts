/** Jobs: work on a collection that takes longer than a call. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client as Stub, Code } from "@connectrpc/connect";
import { LensmeshError } from "./errors.js";
import {
  type Job,
  type JobKind,
  JobState,
  type SearchService,
  type StartCalibrateRequestSchema,
  type StartDeleteItemsRequestSchema,
  type StartFindDuplicatesRequestSchema,
  type StartRebuildIndexesRequestSchema,
} from "./gen/lensmesh/search/v1/search_pb.js";
import { backoffMs, type RetryOptions } from "./retries.js";
import { sleep } from "./waiting.js";

const ENDED: readonly JobState[] = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED];

/** Jobs of the mesh. All of its methods throw LensmeshError. */
export class Jobs {
  constructor(
    private readonly search: Stub<typeof SearchService>,
    private readonly retries: RetryOptions,
  ) {}

  /** Return one job with its parameters. */
  async get(id: string, call?: CallOptions): Promise<Job> {
    return theJob(this.search.getJob({ id }, call));
  }

  /** Yield all jobs, the newest first, page by page. */
  async *list(
    only: { collection?: string; states?: JobState[]; kind?: JobKind } = {},
    call?: CallOptions,
  ): AsyncGenerator<Job> {
    let pageToken = "";
    do {
      const page = await this.search.listJobs({ ...only, pageToken }, call).catch(fail);
      yield* page.jobs;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /** End a job that has not ended. */
  async cancel(id: string, call?: CallOptions): Promise<Job> {
    return theJob(this.search.cancelJob({ id }, call));
  }

  /** Remove the items that a filter names. */
  async deleteItems(request: MessageInitShape<typeof StartDeleteItemsRequestSchema>, call?: CallOptions): Promise<Job> {
    return theJob(this.search.startDeleteItems(request, call));
  }

  /** Group the near-duplicates of a collection. */
  async findDuplicates(
    request: MessageInitShape<typeof StartFindDuplicatesRequestSchema>,
    call?: CallOptions,
  ): Promise<Job> {
    return theJob(this.search.startFindDuplicates(request, call));
  }

  /** Measure what scores mean, so that hits have a relevance. */
  async calibrate(request: MessageInitShape<typeof StartCalibrateRequestSchema>, call?: CallOptions): Promise<Job> {
    return theJob(this.search.startCalibrate(request, call));
  }

  /** Build indexes anew. */
  async rebuildIndexes(
    request: MessageInitShape<typeof StartRebuildIndexesRequestSchema>,
    call?: CallOptions,
  ): Promise<Job> {
    return theJob(this.search.startRebuildIndexes(request, call));
  }

  /**
   * Yield a job as it stands, and again whenever it has changed, until it has ended. A stream that breaks is opened
   * again; as many in a row without a word as a call has tries are too many.
   */
  async *watch(id: string, call: CallOptions = {}): AsyncGenerator<Job> {
    for (let failures = 0; ; ) {
      let last: Job | undefined;
      let error: LensmeshError | undefined;
      try {
        for await (const { job } of this.search.watchJob({ id }, call)) {
          if (job !== undefined) {
            failures = 0;
            last = job;
            yield job;
          }
        }
      } catch (thrown) {
        error = LensmeshError.from(thrown);
      }
      if (last !== undefined && ENDED.includes(last.state)) {
        return;
      }
      error ??= new LensmeshError("the stream ended before the job had", { code: Code.Unavailable });
      if (error.code !== Code.Unavailable || ++failures >= this.retries.attempts || call.signal?.aborted) {
        throw error;
      }
      await sleep(backoffMs(failures, this.retries, error.retryDelayMs), call.signal).catch(fail);
    }
  }

  /** Wait until a job has ended, and return it. Throws its error where it failed. */
  async wait(id: string, call?: CallOptions): Promise<Job> {
    let last: Job | undefined;
    for await (const job of this.watch(id, call)) {
      last = job;
    }
    if (last?.error !== undefined) {
      throw LensmeshError.fromStatus(last.error);
    }
    return last as Job;
  }
}

async function theJob(answer: Promise<{ job?: Job | undefined }>): Promise<Job> {
  const { job } = await answer.catch(fail);
  return job as Job;
}

function fail(thrown: unknown): never {
  throw LensmeshError.from(thrown);
}
