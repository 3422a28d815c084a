// A conversation by openapi-fetch, with the types that openapi-typescript makes of the document. Its argument is the server's address.
import createClient from 'openapi-fetch';
import type { paths } from './generated/schema.js';

declare const process: { argv: string[]; exit(code: number): never };

// The document says how objects are written in addresses; the types alone don't tell openapi-fetch.
const querySerializer = { object: { style: 'form', explode: true } } as const;
const client = createClient<paths>({ baseUrl: process.argv[2], querySerializer });

/** What was answered, or the error as it was told. An answer that may be a stream is a text then. */
function valueOf<T>({ data, error }: { data?: T; error?: unknown }): Exclude<T, string> {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data as Exclude<T, string>;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`Not so: ${what}`);
}

const first = valueOf(await client.POST('/query', { body: { query: 'I like tea', thread_id: 'ts', user_id: 'ada' } }));
check(first.metadata.session_created && first.metadata.status === 'completed', 'the first turn');
const headers = { 'Idempotency-Key': 'once' };
const body = { query: 'What do I like?', thread_id: 'ts', user_id: 'ada' };
const second = valueOf(await client.POST('/query', { params: { header: headers }, body }));
check(second.response.includes('I like tea'), 'the agent knows what was said');
const again = await client.POST('/query', { params: { header: headers }, body });
check(again.response.headers.get('Idempotency-Replayed') === 'true' && valueOf(again).metadata.turn === 2, 'a retry');

const stream = await client.POST('/query', { body: { query: 'Once more', thread_id: 'ts', stream: true }, parseAs: 'text' });
check(String(stream.data).includes('event: done'), 'a stream');

const path = { session_id: 'ts' };
const patch = valueOf(await client.PATCH('/sessions/{session_id}', { params: { path }, body: { metadata: { topic: 'tea' } } }));
check(patch.metadata.topic === 'tea' && patch.metadata.created_from === 'query', 'metadata');
const query = { 'metadata': { 'metadata.topic': 'tea' }, limit: 1 };
const list = valueOf(await client.GET('/users/{user_id}/sessions', { params: { path: { user_id: 'ada' }, query } }));
check(list.sessions.length === 1 && list.next === null, 'a list with a filter');
const newest = { order: 'desc', include: 'items' } as const;
const history = valueOf(await client.GET('/sessions/{session_id}/history', { params: { path, query: newest } }));
check(history.turns.length === 3 && history.turns[0]?.input?.[0]?.type === 'message', 'the history');

const response = valueOf(await client.POST('/v1/responses', { body: { model: 'advanced', conversation: 'ts', input: 'And now?' } }));
check(response.status === 'completed' && response.output[0]?.type === 'message', 'a response');
const chat = valueOf(await client.POST('/v1/chat/completions', { body: { messages: [{ role: 'user', content: 'Hello' }] } }));
check(chat.choices[0]?.finish_reason === 'stop', 'a chat completion');

valueOf(await client.DELETE('/sessions/{session_id}', { params: { path } }));
const gone = await client.GET('/sessions/{session_id}', { params: { path } });
check(gone.error?.code === 'session_not_found', 'an error is a problem');
console.log('A conversation was held.');
