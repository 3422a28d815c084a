// @openai/agents: sessions, chains, conversations, tools; plain and streamed.
import assert from 'node:assert/strict';
import { z } from 'zod';
import { Agent, OpenAIConversationsSession, OpenAIResponsesModel, run, setTracingDisabled, tool } from '@openai/agents';
import { all, check, client, errorOf, model, runChecks } from './lib.mjs';

setTracingDisabled(true);
const openai = client();
const add = tool({
  name: 'add', description: 'Adds one', parameters: z.object({ round: z.number() }), execute: async ({ round }) => `${round + 1}`,
});
const agentWith = (extra = {}) => new Agent({
  name: 'Tester', instructions: 'Be brief.', model: new OpenAIResponsesModel(openai, model), ...extra,
});

const answerOf = async (agent, input, options = {}) => {
  const result = await run(agent, input, options);
  if (options.stream) {
    let told = '';
    for await (const text of result.toTextStream()) told += text;
    await result.completed;
    assert.ok(result.finalOutput === undefined || told.endsWith(result.finalOutput));
  }
  return result;
};

for (const stream of [false, true]) {
  check(`a session in a conversation (stream: ${stream})`, async () => {
    const session = new OpenAIConversationsSession({ client: openai });
    const agent = agentWith();
    assert.equal((await answerOf(agent, 'one', { session, stream })).finalOutput, 'I heard 1: one');
    assert.equal((await answerOf(agent, 'two', { session, stream })).finalOutput, 'I heard 2: one / two');
    const id = await session.getSessionId();
    assert.match(id, /^conv_/);
    assert.equal((await session.getItems()).length, 4);
    assert.equal((await session.getItems(1)).length, 1);
    const other = new OpenAIConversationsSession({ client: openai, conversationId: id });
    assert.equal((await answerOf(agent, 'three', { session: other, stream })).finalOutput, 'I heard 3: one / two / three');
    const popped = await session.popItem();
    assert.equal(popped.content[0].text, 'I heard 3: one / two / three');
    assert.equal((await session.getItems()).length, 5);
    await session.clearSession();
    assert.equal((await errorOf(openai.conversations.retrieve(id))).status, 404);
  });

  check(`a session with tools over three rounds (stream: ${stream})`, async () => {
    const session = new OpenAIConversationsSession({ client: openai });
    const agent = agentWith({ tools: [add] });
    assert.equal((await answerOf(agent, 'call add 3', { session, stream })).finalOutput, 'after 3 calls: 2, 3, 4');
    const types = (await all(openai.conversations.items.list(await session.getSessionId(), { order: 'asc' }))).map((item) => item.type);
    assert.deepEqual(types, ['message', ...Array(3).fill(['function_call', 'function_call_output']).flat(), 'message']);
    assert.equal((await answerOf(agent, 'call add 1', { session, stream })).finalOutput, 'after 1 calls: 2');
  });

  check(`a chain by previousResponseId (stream: ${stream})`, async () => {
    const agent = agentWith({ tools: [add] });
    const first = await answerOf(agent, 'call add 3', { stream });
    assert.equal(first.finalOutput, 'after 3 calls: 2, 3, 4');
    const second = await answerOf(agent, 'next', { stream, previousResponseId: first.lastResponseId });
    assert.match(second.finalOutput, /I heard 2: call add 3 .*next$/);
  });

  check(`a conversation by its id (stream: ${stream})`, async () => {
    const { id: conversationId } = await openai.conversations.create();
    const agent = agentWith({ tools: [add] });
    await answerOf(agent, 'call add 2', { stream, conversationId });
    const items = await all(openai.conversations.items.list(conversationId, { order: 'asc' }));
    assert.deepEqual(items.map((item) => item.type),
      ['message', 'function_call', 'function_call_output', 'function_call', 'function_call_output', 'message']);
    assert.equal((await answerOf(agent, 'next', { stream, conversationId })).finalOutput, 'I heard 2: call add 2 / next');
  });
}

check('a session of more than a hundred items', async () => {
  const session = new OpenAIConversationsSession({ client: openai });
  await session.addItems(Array.from({ length: 120 }, (_, i) => ({ type: 'message', role: 'user', content: `text ${i}` })));
  const items = await session.getItems();
  assert.equal(items.length, 120);
  assert.equal((await session.getItems(50)).at(-1).content[0].text, 'text 119');
  assert.match((await answerOf(agentWith(), 'last', { session })).finalOutput, /^I heard 121: text 0 .* last$/);
});

check('structured output, and handed on to another agent', async () => {
  const place = agentWith({ name: 'Place', outputType: z.object({ city: z.string(), country: z.string() }) });
  assert.deepEqual((await run(place, 'json')).finalOutput, { city: 'Paris', country: 'France' });
  const triage = agentWith({ name: 'Triage', handoffs: [place] });
  assert.match((await run(triage, 'hello')).finalOutput, /hello/);
});

check('an answer that is cut short is an error there', async () => {
  assert.ok(await errorOf(answerOf(agentWith(), 'fail', { stream: true })));
});

await runChecks();
