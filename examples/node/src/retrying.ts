import OpenAI from 'openai';
import { setTimeout as sleep } from 'node:timers/promises';

const BASE_MS = 500;
const MAX_MS = 20_000;
/** A server that asks for more is not waited for: the error is the answer. */
const RETRY_AFTER_MAX_MS = 120_000;

/** Calls `attempt` until it succeeds, fails for good, or has failed `retries` times more. */
export async function retrying<T>(
  retries: number,
  attempt: (number: number) => Promise<T>,
): Promise<T> {
  for (let number = 1; ; number += 1) {
    try {
      return await attempt(number);
    } catch (error) {
      const waitMs = number > retries ? undefined : waitBefore(number, error);
      if (waitMs === undefined) throw error;
      await sleep(waitMs);
    }
  }
}

/** How long to wait before trying again; `undefined` if that would not help. */
function waitBefore(number: number, error: unknown): number | undefined {
  if (!(error instanceof OpenAI.APIError)) return undefined;
  // No status: no answer came, the connection broke or took too long.
  const { status, headers } = error;
  const mayPass = status === undefined || status >= 500 || [408, 409, 425, 429].includes(status);
  if (!mayPass || headers?.get('x-should-retry') === 'false') return undefined;
  const told = retryAfterMs(headers);
  if (told !== undefined) return told <= RETRY_AFTER_MAX_MS ? told : undefined;
  return Math.random() * Math.min(MAX_MS, BASE_MS * 2 ** (number - 1));
}

function retryAfterMs(headers: Headers | undefined): number | undefined {
  const ms = headers?.get('retry-after-ms');
  if (ms && Number.isFinite(Number(ms))) return Math.max(0, Number(ms));
  const after = headers?.get('retry-after');
  if (!after) return undefined;
  const seconds = Number(after);
  const found = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(after) - Date.now();
  return Number.isFinite(found) ? Math.max(0, found) : undefined;
}
