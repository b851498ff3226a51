import OpenAI from 'openai';
import { randomUUID } from 'node:crypto';

import { Places } from './places.ts';
import { retrying } from './retrying.ts';

export interface BatchConfig {
  apiKey: string;
  /** With the version: `http://127.0.0.1:8080/v1`. */
  baseURL: string;
  /** Calls at once. */
  maxConcurrent: number;
  /** Requests that `processBatch` has under way or queued at a time. */
  batchSize: number;
  /** Further attempts for a call that failed in a way that may pass. */
  retryAttempts: number;
}

export interface Request {
  messages: OpenAI.Chat.ChatCompletionMessageParam[];
  options: { model: string; maxCompletionTokens?: number; temperature?: number };
}

export interface Answer {
  id: string;
  content: string | null;
  usage: OpenAI.CompletionUsage | undefined;
  latencyMs: number;
  model: string;
  attempts: number;
}

/** How one request of a batch ended: one failure does not spoil the others. */
export type Outcome = { ok: true; answer: Answer } | { ok: false; error: Error };

export interface Status {
  queued: number;
  running: number;
  completed: number;
  failed: number;
}

export class BatchProcessor {
  private readonly client: OpenAI;
  private readonly config: BatchConfig;
  private readonly places: Places;
  private readonly status: Status = { queued: 0, running: 0, completed: 0, failed: 0 };

  constructor(config: BatchConfig) {
    this.config = config;
    this.places = new Places(config.maxConcurrent);
    this.client = new OpenAI({
      apiKey: config.apiKey,
      baseURL: config.baseURL,
      timeout: 120_000,
      maxRetries: 0, // `retrying` is the only retry loop: two would multiply
    });
  }

  /** One request; it waits for its place. Rejects with the package's own errors. */
  async enqueue(messages: Request['messages'], options: Request['options']): Promise<Answer> {
    this.status.queued += 1;
    return this.places.in(async () => {
      this.status.queued -= 1;
      this.status.running += 1;
      try {
        const answer = await this.ask(messages, options);
        this.status.completed += 1;
        return answer;
      } catch (error) {
        this.status.failed += 1;
        throw error;
      } finally {
        this.status.running -= 1;
      }
    });
  }

  /** Every request's outcome, in the order of the requests. `requests` is read no further ahead
   * than `batchSize`, so it may be a file's lines, too. */
  async processBatch(requests: Iterable<Request> | AsyncIterable<Request>): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    const underWay = new Set<Promise<void>>();
    let index = 0;
    for await (const { messages, options } of requests) {
      const at = index++;
      const one: Promise<void> = this.enqueue(messages, options)
        .then(
          (answer) => void (outcomes[at] = { ok: true, answer }),
          (error: Error) => void (outcomes[at] = { ok: false, error }),
        )
        .finally(() => underWay.delete(one));
      underWay.add(one);
      while (underWay.size >= this.config.batchSize) await Promise.race(underWay);
    }
    await Promise.all(underWay);
    return outcomes;
  }

  getStatus(): Status {
    return { ...this.status };
  }

  /** Keeps its place while it waits between attempts: who is told "too much" sends less. */
  private async ask(messages: Request['messages'], options: Request['options']): Promise<Answer> {
    // One key for all attempts: a relay bills the answer once, whichever attempt brings it.
    const idempotencyKey = randomUUID();
    return retrying(this.config.retryAttempts, async (attempts) => {
      const began = performance.now();
      const completion = await this.client.chat.completions.create(
        {
          model: options.model,
          messages,
          ...(options.maxCompletionTokens !== undefined && {
            max_completion_tokens: options.maxCompletionTokens,
          }),
          ...(options.temperature !== undefined && { temperature: options.temperature }),
        },
        { headers: { 'Idempotency-Key': idempotencyKey } },
      );
      return {
        id: completion.id,
        content: completion.choices[0]?.message.content ?? null,
        usage: completion.usage,
        latencyMs: performance.now() - began,
        model: completion.model,
        attempts,
      };
    });
  }
}
