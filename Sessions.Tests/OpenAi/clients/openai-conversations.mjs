// openai: conversations and their items.
import assert from 'node:assert/strict';
import { all, check, client, errorOf, model, runChecks } from './lib.mjs';

const openai = client();
const message = (text) => ({ type: 'message', role: 'user', content: text });
const texts = (items) => items.map((item) => item.content.map((part) => part.text).join(''));

check('create, retrieve, update, delete', async () => {
  const made = await openai.conversations.create({ metadata: { topic: 'demo' } });
  assert.match(made.id, /^conv_[A-Za-z0-9]+$/);
  assert.equal(made.object, 'conversation');
  assert.ok(Number.isInteger(made.created_at));
  assert.deepEqual(made.metadata, { topic: 'demo' });
  assert.deepEqual(await openai.conversations.retrieve(made.id), made);
  const updated = await openai.conversations.update(made.id, { metadata: { other: 'x', last_query: 'legal here' } });
  assert.deepEqual(updated, { ...made, metadata: { other: 'x', last_query: 'legal here' } });
  assert.deepEqual(await openai.conversations.retrieve(made.id), updated);
  assert.deepEqual(await openai.conversations.delete(made.id), { id: made.id, object: 'conversation.deleted', deleted: true });
  const gone = await errorOf(openai.conversations.retrieve(made.id));
  assert.equal(gone.status, 404);
  assert.match(gone.message, /Conversation with id '.*' not found/);
  assert.ok(gone.requestID);
});

check('create with no parameters, and with items', async () => {
  const empty = await openai.conversations.create();
  assert.deepEqual(empty.metadata, {});
  assert.deepEqual(await all(openai.conversations.items.list(empty.id)), []);
  const made = await openai.conversations.create({ items: [message('one'), { role: 'assistant', content: 'two' }] });
  const items = await all(openai.conversations.items.list(made.id, { order: 'asc' }));
  assert.deepEqual(texts(items), ['one', 'two']);
  assert.equal(items[0].content[0].type, 'input_text');
  assert.deepEqual(items[1].content[0], { type: 'output_text', text: 'two', annotations: [], logprobs: [] });
  assert.ok(items.every((item) => item.status === 'completed' && item.id.startsWith('msg_')));
});

check('pages of items by themselves, over more than a hundred', async () => {
  const { id } = await openai.conversations.create();
  for (let batch = 0; batch < 3; batch++) {
    const items = Array.from({ length: 50 }, (_, i) => message(`text ${batch * 50 + i}`));
    const added = await openai.conversations.items.create(id, { items });
    assert.equal(added.data.length, 50);
    assert.equal(added.first_id, added.data[0].id);
    assert.equal(added.last_id, added.data[49].id);
  }
  const expected = Array.from({ length: 150 }, (_, i) => `text ${i}`);
  assert.deepEqual(texts(await all(openai.conversations.items.list(id, { order: 'asc' }))), expected);
  assert.deepEqual(texts(await all(openai.conversations.items.list(id, { limit: 100 }))), expected.toReversed());
  const page = await openai.conversations.items.list(id);
  assert.equal(page.data.length, 20);
  assert.equal(page.has_more, true);
});

check('items: one, deleted, and those of a turn', async () => {
  const { id } = await openai.conversations.create({ items: [message('my secret is 7')] });
  await openai.responses.create({ model, conversation: id, input: 'and more' });
  const [secret, , answer] = await all(openai.conversations.items.list(id, { order: 'asc' }));
  assert.deepEqual(await openai.conversations.items.retrieve(secret.id, { conversation_id: id }), secret);
  assert.equal(answer.content[0].text, 'I heard 2: my secret is 7 / and more');
  const conversation = await openai.conversations.items.delete(secret.id, { conversation_id: id });
  assert.equal(conversation.id, id);
  assert.equal(conversation.object, 'conversation');
  assert.equal((await errorOf(openai.conversations.items.retrieve(secret.id, { conversation_id: id }))).status, 404);
  assert.equal((await openai.responses.create({ model, conversation: { id }, input: 'now' })).output_text, 'I heard 2: and more / now');
});

check('include[] and a batch of which one is wrong', async () => {
  const { id } = await openai.conversations.create();
  const include = ['reasoning.encrypted_content', 'message.output_text.logprobs'];
  await openai.conversations.items.create(id, { items: [message('one')], include });
  const error = await errorOf(openai.conversations.items.create(id, { items: [message('two'), { type: 'shell_call', call_id: 'c' }] }));
  assert.equal(error.status, 400);
  assert.equal(error.param, 'items[1].type');
  assert.deepEqual(texts(await all(openai.conversations.items.list(id, { include }))), ['one']);
});

await runChecks();
