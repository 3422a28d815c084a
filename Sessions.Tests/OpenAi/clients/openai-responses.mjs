// openai: responses, plain, streamed, chained, cut off, repeated; and chat completions.
import assert from 'node:assert/strict';
import { z } from 'zod';
import { zodTextFormat } from 'openai/helpers/zod';
import { all, check, client, errorOf, model, runChecks, watchedClient } from './lib.mjs';

const openai = client();

check('models', async () => {
  const models = await all(openai.models.list());
  assert.ok(models.some((entry) => entry.id === model));
  assert.equal((await openai.models.retrieve(model)).object, 'model');
  const error = await errorOf(openai.models.retrieve('no-such-model'));
  assert.equal(error.status, 404);
  assert.equal(error.code, 'model_not_found');
});

check('a text, and got again', async () => {
  const made = await openai.responses.create({ model, input: 'hello', metadata: { a: 'b' } });
  assert.match(made.id, /^resp_[A-Za-z0-9]+$/);
  assert.equal(made.output_text, 'I heard 1: hello');
  assert.deepEqual(made.usage, {
    input_tokens: 11, input_tokens_details: { cached_tokens: 3 }, output_tokens: 7, output_tokens_details: { reasoning_tokens: 2 },
    total_tokens: 18,
  });
  assert.ok(made._request_id);
  assert.deepEqual(await openai.responses.retrieve(made.id), made);
  const [input] = await all(openai.responses.inputItems.list(made.id));
  assert.equal(input.content[0].text, 'hello');
});

check('a stream, and its helper', async () => {
  const events = await all(await openai.responses.create({ model, input: 'say a streamed text', stream: true }));
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, i) => i));
  assert.equal(events[0].type, 'response.created');
  const deltas = events.filter((event) => event.type === 'response.output_text.delta');
  assert.equal(deltas.map((event) => event.delta).join(''), 'a streamed text');
  const last = events.at(-1);
  assert.equal(last.type, 'response.completed');
  const { output_text, ...got } = await openai.responses.retrieve(last.response.id);
  assert.equal(output_text, 'a streamed text');
  assert.deepEqual(got, last.response);

  const stream = openai.responses.stream({ model, input: 'say it again' });
  let told = '';
  stream.on('response.output_text.delta', (event) => { told += event.delta; });
  const final = await stream.finalResponse();
  assert.equal(told, 'it again');
  assert.equal(final.output_text, 'it again');
});

check('a stream picked up again', async () => {
  const { id } = await openai.responses.create({ model, input: 'say hello again' });
  const whole = await all(await openai.responses.retrieve(id, { stream: true }));
  assert.equal(whole.at(-1).response.output[0].content[0].text, 'hello again');
  const { openai: cut } = watchedClient();
  const stream = await cut.responses.create({ model, input: 'say a text that is cut off', stream: true });
  const had = [];
  for await (const event of stream) {
    had.push(event);
    if (had.length === 6) break;
  }
  const response_id = had[0].response.id;
  const left = await all(await openai.responses.retrieve(response_id, { stream: true, starting_after: had.at(-1).sequence_number }));
  const deltas = [...had, ...left].filter((event) => event.type === 'response.output_text.delta');
  assert.equal(deltas.map((event) => event.delta).join(''), 'a text that is cut off');
  assert.equal(left[0].sequence_number, had.at(-1).sequence_number + 1);
  const helper = openai.responses.stream({ response_id });
  assert.equal((await helper.finalResponse()).output_text, 'a text that is cut off');
});

check('chains and branches', async () => {
  const first = await openai.responses.create({ model, input: 'one' });
  const [left, right] = await Promise.all(['left', 'right']
    .map((input) => openai.responses.create({ model, input, previous_response_id: first.id })));
  assert.equal(left.output_text, 'I heard 2: one / left');
  assert.equal(right.output_text, 'I heard 2: one / right');
  assert.equal(right.previous_response_id, first.id);
  const next = await openai.responses.create({ model, input: 'more', previous_response_id: left.id });
  assert.equal(next.output_text, 'I heard 3: one / left / more');
  await openai.responses.delete(left.id);
  assert.equal((await errorOf(openai.responses.retrieve(left.id))).status, 404);
  const error = await errorOf(openai.responses.create({ model, input: 'x', previous_response_id: left.id }));
  assert.equal(error.status, 400);
  assert.equal(error.code, 'previous_response_not_found');
  const later = await openai.responses.create({ model, input: 'still', previous_response_id: next.id });
  assert.equal(later.output_text, 'I heard 3: one / more / still');
});

check('a chain from a conversation leaves it as it is', async () => {
  const { id } = await openai.conversations.create();
  const first = await openai.responses.create({ model, conversation: id, input: 'one' });
  assert.deepEqual(first.conversation, { id });
  const branch = await openai.responses.create({ model, input: 'aside', previous_response_id: first.id });
  assert.equal(branch.output_text, 'I heard 2: one / aside');
  assert.equal(branch.conversation, undefined);
  const unkept = await openai.responses.create({ model, input: 'unkept', previous_response_id: first.id, store: false });
  assert.equal(unkept.output_text, 'I heard 2: one / unkept');
  assert.equal((await openai.responses.create({ model, conversation: id, input: 'two' })).output_text, 'I heard 2: one / two');
  assert.equal((await all(openai.conversations.items.list(id))).length, 4);
  const again = await openai.responses.create({ model, input: 'on', previous_response_id: branch.id });
  assert.equal(again.output_text, 'I heard 3: one / aside / on');
});

check('store: false', async () => {
  const made = await openai.responses.create({ model, input: 'unkept', store: false });
  assert.equal(made.store, false);
  assert.equal((await errorOf(openai.responses.retrieve(made.id))).status, 404);
  const refused = await errorOf(openai.responses.create({ model, input: 'x', previous_response_id: made.id }));
  assert.equal(refused.code, 'previous_response_not_found');
});

check('structured output', async () => {
  const Place = z.object({ city: z.string(), country: z.string() });
  const made = await openai.responses.parse({ model, input: 'json', text: { format: zodTextFormat(Place, 'place') } });
  assert.deepEqual(made.output_parsed, { city: 'Paris', country: 'France' });
  assert.equal(made.text.format.name, 'place');
  const stream = openai.responses.stream({ model, input: 'json', text: { format: zodTextFormat(Place, 'place') } });
  assert.deepEqual((await stream.finalResponse()).output_parsed, { city: 'Paris', country: 'France' });
});

check('options reach the model', async () => {
  const made = await openai.responses.create({
    model, input: 'options', instructions: 'Be brief.', temperature: 0.5, top_p: 0.9, max_output_tokens: 100, reasoning: { effort: 'low' },
    text: { format: { type: 'json_object' }, verbosity: 'low' },
  });
  const sent = JSON.parse(made.output_text);
  assert.equal(sent.temperature, 0.5);
  assert.equal(sent.top_p, 0.9);
  assert.equal(sent.max_completion_tokens ?? sent.max_tokens, 100);
  assert.equal(sent.reasoning_effort, 'low');
  assert.equal(sent.verbosity, 'low');
  assert.equal(sent.response_format.type, 'json_object');
  assert.ok(sent.system.some((text) => text.includes('Be brief.')));
  assert.equal(made.temperature, 0.5);
  assert.equal(made.instructions, 'Be brief.');
});

check('images', async () => {
  const image_url = 'data:image/png;base64,'
    + 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
  const content = [{ type: 'input_text', text: 'what is this?' }, { type: 'input_image', image_url, detail: 'low' }];
  const made = await openai.responses.create({ model, input: [{ role: 'user', content }] });
  assert.equal(made.output_text, 'I heard 1: what is this?, and saw 1');
  const [item] = await all(openai.responses.inputItems.list(made.id));
  assert.deepEqual(item.content, content);
});

check('a refusal, and an answer that is cut short', async () => {
  const refused = await openai.responses.create({ model, input: 'refuse' });
  assert.deepEqual(refused.output[0].content, [{ type: 'refusal', refusal: "I won't." }]);
  const told = await all(await openai.responses.create({ model, input: 'refuse', stream: true }));
  assert.equal(told.find((event) => event.type === 'response.refusal.done').refusal, "I won't.");
  const cut = await openai.responses.create({ model, input: 'long' });
  assert.equal(cut.status, 'incomplete');
  assert.deepEqual(cut.incomplete_details, { reason: 'max_output_tokens' });
  assert.equal((await all(await openai.responses.create({ model, input: 'long', stream: true }))).at(-1).type, 'response.incomplete');
});

check('a failing agent is not asked again, plain or streamed', async () => {
  const { openai: watched, sent } = watchedClient();
  const plain = await errorOf(watched.responses.create({ model, input: 'fail' }));
  assert.ok(plain.status >= 500);
  assert.equal(plain.type, 'server_error');
  assert.equal(sent.length, 1);
  const streamed = await errorOf((async () => all(await watched.responses.create({ model, input: 'break', stream: true })))());
  assert.equal(streamed.error?.type ?? streamed.type, 'server_error');
  const helped = await errorOf(watched.responses.stream({ model, input: 'break' }).finalResponse());
  assert.ok(helped);
});

check('an answer that was lost on the way is given again, once run', async () => {
  for (const stream of [false, true]) {
    const { id } = await openai.conversations.create();
    const { openai: watched, sent } = watchedClient({ lose: (number) => number === 1 });
    const made = await watched.responses.create({ model, conversation: id, input: 'once', stream });
    if (stream) {
      assert.equal((await all(made)).at(-1).type, 'response.completed');
    } else {
      assert.equal(made.output_text, 'I heard 1: once');
    }
    assert.equal(sent.length, 2);
    assert.equal((await all(openai.conversations.items.list(id))).length, 2);
  }
});

check('a key of the caller', async () => {
  const { id } = await openai.conversations.create();
  const send = (input, stream = false) =>
    openai.responses.create({ model, conversation: id, input, stream }, { headers: { 'Idempotency-Key': 'k1' } });
  const { data: first, response } = await send('once').withResponse();
  const { data: again, response: replay } = await send('once').withResponse();
  assert.deepEqual(again, first);
  assert.equal(response.headers.get('idempotency-replayed'), null);
  assert.equal(replay.headers.get('idempotency-replayed'), 'true');
  const error = await errorOf(send('other'));
  assert.equal(error.status, 422);
  assert.equal(error.code, 'idempotency_key_reused');
  assert.equal((await all(openai.conversations.items.list(id))).length, 2);
});

check('hung up in the middle: kept whole, or not at all', async () => {
  const { id } = await openai.conversations.create();
  const stopped = new AbortController();
  const stream = await openai.responses.create({ model, conversation: id, input: 'hold', stream: true }, { signal: stopped.signal });
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') break;
  }
  stopped.abort();
  const plain = new AbortController();
  const other = await openai.conversations.create();
  const asked = openai.responses.create({ model, conversation: other.id, input: 'hold' }, { signal: plain.signal });
  setTimeout(() => plain.abort(), 200);
  assert.equal((await errorOf(asked)).name, 'AbortError' in globalThis ? 'AbortError' : 'Error');
  assert.deepEqual(await all(openai.conversations.items.list(other.id)), []);
});

check('mistakes are told with the field', async () => {
  for (const [body, param, code] of [
    [{ model }, 'input', 'missing_required_parameter'],
    [{ model, input: 'x', tools: [{ type: 'web_search' }] }, 'tools[0].type', 'unsupported_parameter'],
    [{ model, input: 'x', background: true }, 'background', 'unsupported_parameter'],
    [{ model, input: 'x', temperature: 3 }, 'temperature', 'decimal_above_max_value'],
    [{ model, input: 'x', nonsense: 1 }, 'nonsense', 'unknown_parameter'],
    [{ model, input: 'x', metadata: { k: 'v'.repeat(513) } }, 'metadata.k', 'string_above_max_length'],
    [{ model, input: [{ role: 'nobody', content: 'x' }] }, 'input[0].role', 'invalid_value'],
  ]) {
    const error = await errorOf(openai.responses.create({ ...body, stream: true }));
    assert.equal(error.status, 400, param);
    assert.equal(error.param, param);
    assert.equal(error.code, code);
    assert.equal(error.type, 'invalid_request_error');
  }
  const error = await errorOf(openai.responses.create({ model, input: 'x', conversation: 'conv_00000000000000000000000000000000' }));
  assert.equal(error.status, 404);
});

check('chat completions', async () => {
  const messages = [{ role: 'system', content: 'Be kind.' }, { role: 'user', content: 'hello' }];
  const made = await openai.chat.completions.create({ model, messages });
  assert.equal(made.choices[0].message.content, 'I heard 1: hello');
  assert.equal(made.choices[0].finish_reason, 'stop');
  assert.equal(made.usage.total_tokens, 18);
  const stream = await openai.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } });
  const chunks = await all(stream);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'I heard 1: hello');
  assert.equal(chunks.at(-1).usage.total_tokens, 18);
  const parameters = { type: 'object', properties: { round: { type: 'integer' } } };
  const tools = [{ type: 'function', function: { name: 'add', parameters } }];
  const called = await openai.chat.completions.create({ model, messages: [{ role: 'user', content: 'call add 1' }], tools });
  assert.equal(called.choices[0].finish_reason, 'tool_calls');
  const [call] = called.choices[0].message.tool_calls;
  const done = await openai.chat.completions.create({
    model, tools,
    messages: [{ role: 'user', content: 'call add 1' }, called.choices[0].message, { role: 'tool', tool_call_id: call.id, content: '42' }],
  });
  assert.equal(done.choices[0].message.content, 'after 1 calls: 42');
  const run = openai.chat.completions.stream({ model, tools, messages: [{ role: 'user', content: 'call add 1' }] });
  assert.equal((await run.finalChatCompletion()).choices[0].message.tool_calls[0].function.arguments, '{"round":1}');
});

check('chat completions with a session', async () => {
  const headers = { 'X-Session-Id': `chat-${Date.now()}` };
  const system = { role: 'system', content: 'Be kind.' };
  const user = (content) => ({ role: 'user', content });
  const first = await openai.chat.completions.create({ model, messages: [system, user('one')] }, { headers });
  const grown = [system, user('one'), first.choices[0].message, user('two')];
  const second = await openai.chat.completions.create({ model, messages: grown }, { headers });
  assert.equal(second.choices[0].message.content, 'I heard 2: one / two');
  const third = await openai.chat.completions.create({ model, messages: [system, user('options')] }, { headers });
  assert.equal(JSON.parse(third.choices[0].message.content).system.filter((text) => text.includes('Be kind.')).length, 1);
  const response = await openai.responses.create({ model, conversation: headers['X-Session-Id'], input: 'three' });
  assert.equal(response.output_text, 'I heard 4: one / two / options / three');
});

await runChecks();
