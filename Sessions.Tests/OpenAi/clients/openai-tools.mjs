// openai: tools of the client's, three rounds, plain and streamed, by chain, by conversation, and with the whole history sent each time.
import assert from 'node:assert/strict';
import { all, check, client, errorOf, model, runChecks } from './lib.mjs';

const openai = client();
const tools = [{
  type: 'function', name: 'add', description: 'Adds one', strict: true,
  parameters: {
    $schema: 'http://json-schema.org/draft-07/schema#', type: 'object', properties: { round: { type: 'integer' } }, required: ['round'],
    additionalProperties: false,
  },
}];

const answer = async (body, stream) => {
  if (stream === 'helper') return openai.responses.stream({ model, tools, ...body }).finalResponse();
  if (!stream) return openai.responses.create({ model, tools, ...body });
  const events = await all(await openai.responses.create({ model, tools, ...body, stream: true }));
  const done = events.find((event) => event.type === 'response.function_call_arguments.done');
  const added = events.filter((event) => event.type === 'response.output_item.added').map((event) => event.item.id);
  const response = events.at(-1).response;
  assert.deepEqual(added, response.output.map((item) => item.id));
  if (done) {
    const deltas = events.filter((event) => event.type === 'response.function_call_arguments.delta').map((event) => event.delta).join('');
    assert.equal(deltas, done.arguments);
    assert.equal(done.name, 'add');
  }
  return { ...response, output_text: response.output.flatMap((item) => item.content ?? []).map((part) => part.text).join('') };
};

const outputsOf = (response) => response.output.filter((item) => item.type === 'function_call')
  .map((item) => ({ type: 'function_call_output', call_id: item.call_id, output: `${JSON.parse(item.arguments).round + 1}` }));

for (const stream of [false, true, 'helper']) {
  check(`three rounds along a chain (stream: ${stream})`, async () => {
    let response = await answer({ input: 'call add 3' }, stream);
    for (let round = 1; round <= 3; round++) {
      const [call] = response.output;
      assert.equal(call.type, 'function_call');
      assert.equal(call.status, 'completed');
      assert.ok(call.id.startsWith('fc_'));
      response = await answer({ input: outputsOf(response), previous_response_id: response.id }, stream);
    }
    assert.equal(response.output_text, 'after 3 calls: 2, 3, 4');
    assert.equal(response.tools[0].name, 'add');
  });

  check(`three rounds in a conversation (stream: ${stream})`, async () => {
    const conversation = (await openai.conversations.create()).id;
    let response = await answer({ input: 'call add 3', conversation }, stream);
    for (let round = 1; round <= 3; round++) {
      response = await answer({ input: outputsOf(response), conversation }, stream);
    }
    assert.equal(response.output_text, 'after 3 calls: 2, 3, 4');
    const items = await all(openai.conversations.items.list(conversation, { order: 'asc' }));
    assert.deepEqual(items.map((item) => item.type),
      ['message', ...Array(3).fill(['function_call', 'function_call_output']).flat(), 'message']);
    assert.equal(items[2].output, '2');
  });

  check(`the whole history each time (stream: ${stream})`, async () => {
    const history = [{ role: 'user', content: 'call add 3' }];
    let response;
    do {
      response = await answer({ input: history, store: false }, stream);
      history.push(...response.output, ...outputsOf(response));
    } while (outputsOf(response).length > 0);
    assert.equal(response.output_text, 'after 3 calls: 2, 3, 4');
  });
}

check('two calls at once', async () => {
  const first = await answer({ input: 'both add' });
  assert.equal(first.output.length, 2);
  const done = await answer({ input: outputsOf(first).toReversed(), previous_response_id: first.id });
  assert.equal(done.output_text, 'after 2 calls: 2, 3'); // The model gets them in the order of its calls.
});

check('a call without its output, and an output without its call', async () => {
  const conversation = (await openai.conversations.create()).id;
  const first = await answer({ input: 'call add 1', conversation });
  const early = await errorOf(openai.responses.create({ model, conversation, input: 'never mind' }));
  assert.equal(early.status, 400);
  assert.equal(early.param, 'input');
  assert.match(early.message, new RegExp(`No tool output found for function call ${first.output[0].call_id}`));
  const unasked = { type: 'function_call_output', call_id: 'call_x', output: 'x' };
  const stray = await errorOf(openai.responses.create({ model, input: [unasked] }));
  assert.equal(stray.status, 400);
  assert.match(stray.message, /No tool call found for function call output with call_id call_x/);
  const done = await answer({ input: outputsOf(first), conversation });
  assert.equal(done.output_text, 'after 1 calls: 2');
  const second = await answer({ input: 'call add 1', conversation });
  await openai.conversations.items.delete(second.output[0].id, { conversation_id: conversation });
  assert.match((await answer({ input: 'go on', conversation })).output_text, /go on$/);
});

check('an output of parts', async () => {
  const first = await answer({ input: 'call add 1' });
  const output = [{ type: 'input_text', text: 'two' }];
  const input = [{ type: 'function_call_output', call_id: first.output[0].call_id, output }];
  const done = await answer({ input, previous_response_id: first.id });
  assert.equal(done.output_text, 'after 1 calls: two');
  const [item] = await all(openai.responses.inputItems.list(done.id));
  assert.deepEqual(item.output, output);
});

check('tool_choice reaches the model', async () => {
  const told = await answer({ input: 'options', tool_choice: { type: 'function', name: 'add' }, parallel_tool_calls: false });
  const sent = JSON.parse(told.output_text);
  assert.deepEqual(sent.tool_choice, { type: 'function', function: { name: 'add' } });
  assert.equal(sent.parallel_tool_calls, false);
  assert.equal(sent.tools[0].function.name, 'add');
});

await runChecks();
