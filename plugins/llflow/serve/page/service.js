// What the page asks of the service. Everything a picture needs can be asked for anew: the service
// may have forgotten it, or be another one since.

const PAUSE = 1500;

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const later = (time, signal) =>
  new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, time);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

// A response that is fine. Waits while the service is busy or away, and says so.
async function ask(path, options, say) {
  const { signal } = options;
  for (;;) {
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (signal?.aborted) throw error;
      say("The service doesn't answer. Trying again.");
      await later(PAUSE, signal);
      continue;
    }
    if (response.ok) return response;
    const said = await response.json().catch(() => ({}));
    const after = Number(response.headers.get("Retry-After"));
    if (response.status !== 503 || !after) {
      throw new Problem(response.status, said.detail ?? `The service answered ${response.status}.`);
    }
    say(`The service is busy. Trying again in ${after} s.`);
    await later(1000 * after, signal);
  }
}

// The job's last state, told of each before.
function ended(id, signal, tell) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`/v1/jobs/${id}/events`);
    const over = new AbortController();
    const stop = (how, what) => {
      events.close();
      over.abort();
      how(what);
    };
    events.onmessage = (event) => {
      const job = JSON.parse(event.data);
      if (job.status === "done") stop(resolve, job);
      else if (job.problem) stop(reject, new Problem(job.problem.status, job.problem.detail));
      else if (job.status === "cancelled") stop(reject, new Problem(404, "The job was cancelled."));
      else tell(job);
    };
    events.onerror = () => stop(reject, new Problem(404, "The service has gone."));
    const cancel = () => {
      fetch(`/v1/jobs/${id}`, { method: "DELETE" }).catch(() => {});
      stop(reject, signal.reason);
    };
    signal.addEventListener("abort", cancel, { signal: over.signal });
  });
}

// A picture's version: what the network makes of it with these settings.
export class Version {
  constructor(file, settings = {}, base = null) {
    Object.assign(this, { file, settings, base, job: null, ready: null });
    this.ending = new AbortController();
  }

  // Its job, computed once; and again where the service has lost it.
  computed(say) {
    this.ready ??= this.compute(say).catch((error) => {
      this.ready = null;
      throw error;
    });
    return this.ready;
  }

  async compute(say) {
    const { signal } = this.ending;
    for (;;) {
      const query = new URLSearchParams(this.settings);
      const options = { method: "POST", signal };
      if (this.base?.job) query.set("of", this.base.job.id);
      else options.body = this.file;
      options.headers = { "Content-Type": "application/octet-stream" };
      try {
        say("Sending the picture.");
        const submitted = await (await ask(`/v1/jobs?${query}`, options, say)).json();
        this.job = await ended(submitted.id, signal, (job) => say(progress(job), job.share));
        return this.job;
      } catch (error) {
        if (error.status !== 404) throw error;
        if (this.base) this.base.forget();
        await later(PAUSE, signal);
      }
    }
  }

  forget() {
    this.job = null;
    this.ready = null;
  }

  cancel() {
    this.ending.abort(new Problem(0, "Cancelled."));
    this.ending = new AbortController();
    if (this.job) fetch(`/v1/jobs/${this.job.id}`, { method: "DELETE" }).catch(() => {});
    this.forget();
  }

  // preview, result, uncertainty or score; the first two with settings of what follows the network
  async get(what, settings, say) {
    for (;;) {
      const { id } = await this.computed(say);
      const query = new URLSearchParams(settings);
      try {
        return await ask(`/v1/jobs/${id}/${what}?${query}`, { signal: this.ending.signal }, say);
      } catch (error) {
        if (error.status !== 404) throw error;
        this.forget();
      }
    }
  }
}

function progress(job) {
  if (job.status === "computing") return "Computing.";
  if (job.ahead === 0) return "It is next.";
  return job.ahead === 1 ? "One picture is before it." : `${job.ahead} pictures are before it.`;
}
