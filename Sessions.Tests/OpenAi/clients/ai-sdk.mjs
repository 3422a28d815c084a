// ai with @ai-sdk/openai: texts, streams, tools, structured output; the history sent each time refers to stored items.
import assert from 'node:assert/strict';
import { z } from 'zod';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { all, baseURL, check, client, model, runChecks } from './lib.mjs';

const bodies = [];
const provider = createOpenAI({
  baseURL, apiKey: 'none', fetch: async (url, init) => {
    bodies.push(JSON.parse(init.body));
    return fetch(url, init);
  },
});
const openai = client();
const language = provider(model);
const tools = {
  add: tool({ description: 'Adds one', inputSchema: z.object({ round: z.number() }), execute: async ({ round }) => `${round + 1}` }),
};

const answer = async (stream, options) => {
  if (!stream) return generateText({ model: language, ...options });
  const result = streamText({ model: language, onError: () => {}, ...options });
  let told = '';
  for await (const text of result.textStream) told += text;
  assert.ok(told.endsWith(await result.text));
  return {
    text: await result.text, response: await result.response, steps: await result.steps, usage: await result.usage,
    providerMetadata: await result.providerMetadata,
  };
};

for (const stream of [false, true]) {
  check(`a text (stream: ${stream})`, async () => {
    const { text, usage, providerMetadata } = await answer(stream, { prompt: 'hello', system: 'Be brief.' });
    assert.equal(text, 'I heard 1: hello');
    assert.equal(usage.totalTokens, 18);
    assert.match(providerMetadata.openai.responseId, /^resp_/);
  });

  check(`the history refers to stored items (stream: ${stream})`, async () => {
    const messages = [{ role: 'user', content: 'one' }];
    const first = await answer(stream, { messages });
    messages.push(...first.response.messages, { role: 'user', content: 'two' });
    bodies.length = 0;
    const second = await answer(stream, { messages });
    assert.equal(second.text, 'I heard 2: one / two');
    assert.ok(bodies[0].input.some((item) => item.type === 'item_reference'));
  });

  check(`tools over three rounds (stream: ${stream})`, async () => {
    bodies.length = 0;
    const { text, steps } = await answer(stream, { prompt: 'call add 3', tools, stopWhen: stepCountIs(5) });
    assert.equal(text, 'after 3 calls: 2, 3, 4');
    assert.equal(steps.length, 4);
    assert.ok(bodies.at(-1).input.some((item) => item.type === 'item_reference' || item.type === 'function_call'));
  });

  check(`without stored items (stream: ${stream})`, async () => {
    const options = { tools, stopWhen: stepCountIs(5), providerOptions: { openai: { store: false } } };
    assert.equal((await answer(stream, { prompt: 'call add 2', ...options })).text, 'after 2 calls: 2, 3');
  });

  check(`a chain, and a conversation (stream: ${stream})`, async () => {
    const first = await answer(stream, { prompt: 'one' });
    const previousResponseId = first.providerMetadata.openai.responseId;
    const second = await answer(stream, { prompt: 'two', providerOptions: { openai: { previousResponseId } } });
    assert.equal(second.text, 'I heard 2: one / two');
    const { id: conversation } = await openai.conversations.create();
    await answer(stream, { prompt: 'one', providerOptions: { openai: { conversation } } });
    assert.equal((await answer(stream, { prompt: 'two', providerOptions: { openai: { conversation } } })).text, 'I heard 2: one / two');
    assert.equal((await all(openai.conversations.items.list(conversation))).length, 4);
  });

  check(`structured output (stream: ${stream})`, async () => {
    const output = Output.object({ schema: z.object({ city: z.string(), country: z.string() }) });
    const options = { model: language, prompt: 'json', output };
    const result = stream ? await streamText(options).output : (await generateText(options)).output;
    assert.deepEqual(result, { city: 'Paris', country: 'France' });
  });
}

check('an image', async () => {
  const image = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
  const { text } = await generateText({
    model: language,
    messages: [{ role: 'user', content: [{ type: 'text', text: 'what is this?' }, { type: 'image', image, mediaType: 'image/png' }] }],
  });
  assert.equal(text, 'I heard 1: what is this?, and saw 1');
});

check('a failure is seen, plain and streamed', async () => {
  await assert.rejects(generateText({ model: language, prompt: 'fail', maxRetries: 0 }));
  let seen;
  const result = streamText({ model: language, prompt: 'break', maxRetries: 0, onError: ({ error }) => { seen = error; } });
  for await (const part of result.fullStream) if (part.type === 'error') seen = part.error;
  assert.ok(seen);
});

check('chat completions', async () => {
  const { text } = await generateText({ model: provider.chat(model), prompt: 'hello' });
  assert.equal(text, 'I heard 1: hello');
});

await runChecks();
