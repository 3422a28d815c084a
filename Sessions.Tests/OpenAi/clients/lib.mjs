// What the scripts share: where the server is, and a list of checks that are made one after another.
import OpenAI from 'openai';

export const baseURL = process.env.OPENAI_BASE_URL;
export const model = 'model';

/** A client as anybody would make it: the address, and a key that no one looks at. */
export const client = (options = {}) => new OpenAI({ baseURL, apiKey: 'none', ...options });

/** A client that counts what it sends, and may have an answer lost on the way. */
export function watchedClient({ lose = () => false, ...options } = {}) {
  const sent = [];
  const fetchIt = async (url, init) => {
    const number = sent.push({ url: String(url), init });
    const answer = await fetch(url, init);
    if (lose(number, answer)) {
      await answer.arrayBuffer();
      throw new TypeError('fetch failed: the answer was lost');
    }
    return answer;
  };
  return { openai: client({ fetch: fetchIt, ...options }), sent };
}

const checks = [];

/** Adds a check. */
export const check = (name, run) => checks.push({ name, run });

/** Makes all checks, says how each went, and ends with 1 if one failed. */
export async function runChecks() {
  let failed = 0;
  for (const { name, run } of checks) {
    try {
      await run();
      console.log(`ok ${name}`);
    } catch (error) {
      failed++;
      console.log(`failed ${name}: ${error?.stack ?? error}`);
    }
  }
  console.log(`${checks.length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

/** All that an async iterable gives. */
export async function all(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** The error that a promise ends with. */
export async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('It succeeded.');
}
