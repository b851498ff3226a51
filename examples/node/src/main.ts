/**
 * A prompt a line on standard input, an answer a line (JSON) on standard output, in the same order.
 *
 *     MERINO_API_KEY=mk-... npm start < prompts.txt > answers.jsonl
 */
import { createInterface } from 'node:readline';

import { BatchProcessor, type Request } from './batch-processor.ts';

async function* prompts(model: string): AsyncGenerator<Request> {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) {
      yield {
        messages: [{ role: 'user', content: line }],
        options: { model, maxCompletionTokens: 1000 },
      };
    }
  }
}

const { MERINO_API_KEY, MERINO_BASE_URL, MODEL, MAX_CONCURRENT } = process.env;
if (!MERINO_API_KEY) {
  console.error('Set MERINO_API_KEY to a key of the relay (mk-...).');
  process.exit(2);
}
const processor = new BatchProcessor({
  apiKey: MERINO_API_KEY,
  baseURL: MERINO_BASE_URL ?? 'http://127.0.0.1:8080/v1',
  maxConcurrent: Number(MAX_CONCURRENT ?? 10),
  batchSize: 50,
  retryAttempts: 3,
});
const outcomes = await processor.processBatch(prompts(MODEL ?? 'o3-mini'));
for (const outcome of outcomes) {
  console.log(JSON.stringify(outcome.ok ? outcome.answer : { error: outcome.error.message }));
}
console.error('Status:', JSON.stringify(processor.getStatus()));
process.exitCode = processor.getStatus().failed ? 1 : 0;
